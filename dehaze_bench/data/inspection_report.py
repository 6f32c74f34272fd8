"""What an inspection found, as data, text, JSON and one HTML page without scripts."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

SHOWN = 8  # files per finding in text; JSON and HTML have all


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or, as a note, one that is worth knowing; `files` are named in full."""

    kind: str
    where: str
    text: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """What one part of a data set is; `version` tells published editions apart."""

    label: str
    layout: str
    pictures: int
    scenes: int
    version: str
    sizes: tuple[str, ...]
    formats: tuple[str, ...]
    alignment: str


@dataclass
class Report:
    """The whole: summaries, findings (which make the exit code 1) and notes (which do not)."""

    decoder: str
    root: str
    summaries: list[Summary] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    looked: int = 0
    remembered: int = 0

    @property
    def verdict(self) -> str:
        """One line: what was found over how much."""
        found = count_of(len(self.findings), "finding", "findings") if self.findings else "nothing wrong found"
        return f"{found} ({count_of(self.looked, 'look', 'looks')}, {self.remembered:,} more remembered)"


def to_text(report: Report) -> str:
    """Write the report for a terminal or a log."""
    lines = [f"decoder: {report.decoder}", f"root: {report.root}"]
    for summary in report.summaries:
        lines += ["", summary.label, *(f"  {name}: {text}" for name, text in _facts(summary))]
    for title, found in (("findings", report.findings), ("notes", report.notes)):
        if found:
            lines += ["", f"{title} ({len(found)})"]
        for finding in found:
            lines.append(f"  {finding.kind}: {finding.where}: {finding.text}")
            lines += [f"    {file}" for file in finding.files[:SHOWN]]
            if len(finding.files) > SHOWN:
                lines.append(f"    ... and {len(finding.files) - SHOWN} more (all in the JSON and HTML report)")
    return "\n".join([*lines, "", report.verdict]) + "\n"


def to_json(report: Report) -> str:
    """Write everything as one JSON object."""
    whole = {"verdict": report.verdict, **asdict(report)}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def to_html(report: Report) -> str:
    """Write one page that loads nothing; every text that comes from outside is escaped."""
    blocks = [f"<p>{_safe(report.verdict)}</p>", f"<p>root {_safe(report.root)}<br>decoder {_safe(report.decoder)}</p>"]
    for summary in report.summaries:
        rows = "".join(f"<tr><th>{_safe(name)}</th><td>{_safe(text)}</td></tr>" for name, text in _facts(summary))
        blocks.append(f"<h2>{_safe(summary.label)}</h2>\n<table>{rows}</table>")
    blocks += _section("Findings", report.findings, "bad") + _section("Notes", report.notes, "note")
    return _PAGE.format(css=_CSS, body="\n".join(blocks))


def _facts(summary: Summary) -> list[tuple[str, str]]:
    return [
        ("layout", summary.layout),
        ("pictures", f"{summary.pictures:,} of {summary.scenes:,} scenes"),
        ("version", summary.version),
        ("sizes", ", ".join(summary.sizes) or "none"),
        ("formats", ", ".join(summary.formats) or "none"),
        ("alignment", summary.alignment),
    ]


def _section(title: str, found: Sequence[Finding], style: str) -> list[str]:
    if not found:
        return []
    blocks = [f"<h2>{title} ({len(found)})</h2>"]
    for finding in found:
        head = f"<strong>{_safe(finding.kind)}</strong> {_safe(finding.where)}: {_safe(finding.text)}"
        files = "".join(f"<li>{_safe(file)}</li>" for file in finding.files)
        body = (
            f"<details><summary>{count_of(len(finding.files), 'file', 'files')}</summary><ul>{files}</ul></details>"
            if files
            else ""
        )
        blocks.append(f'<div class="{style}"><p>{head}</p>{body}</div>')
    return blocks


def count_of(num: int, one: str, many: str) -> str:
    """Return "1 file" or "2 files"."""
    return f"{num:,} {one if num == 1 else many}"


def _safe(text: str) -> str:
    # A file name may hold bytes that are no text; a page is UTF-8.
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"))


_CSS = """
:root { color-scheme: light dark; --ink: #1c2128; --dim: #59636e; --paper: #ffffff; --line: #d5dae0; --bad: #a3261b;
  --note: #59636e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --dim: #9aa5b1; --paper: #14181d; --line: #333b44;
  --bad: #f0857a; --note: #9aa5b1; } }
body { margin: 2rem auto; max-width: 64rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.25rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
table { border-collapse: collapse; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 600; white-space: nowrap; }
.bad, .note { margin: .75rem 0; padding-left: .75rem; border-left: 3px solid var(--bad); }
.note { border-color: var(--note); }
.bad strong { color: var(--bad); }
p { margin: .25rem 0; } details { color: var(--dim); }
""".strip()

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Data verification</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
{css}
</style>
</head>
<body>
<h1>Data verification</h1>
{body}
</body>
</html>
"""

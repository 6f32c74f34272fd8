"""One self-contained HTML page around a table: no script, nothing loaded, readable in light and in dark."""

from __future__ import annotations

import html
from collections.abc import Sequence

from dehaze_bench.results.cells import Row

_CSS = """
:root { color-scheme: light dark; --ink: #1c2128; --dim: #59636e; --paper: #ffffff; --line: #d5dae0;
  --tint: #f4f6f8; --best: #0a5f38; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --dim: #9aa5b1; --paper: #14181d;
  --line: #333b44; --tint: #1c2229; --best: #6fd6a2; } }
body { margin: 2rem auto; max-width: 84rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.25rem; font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .55rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 600; border-bottom: 2px solid var(--line); }
th.text, td.text { text-align: left; }
th.text:last-child, td.text:last-child { white-space: normal; }
td.text + td.text { color: var(--dim); }
tbody + tbody td { background: var(--tint); }
tbody tr:hover td { background: var(--line); }
strong { color: var(--best); }
sup { line-height: 0; }
.second { text-decoration: underline; text-underline-offset: 3px; }
.missing { color: var(--dim); font-style: italic; }
ul { margin-top: 1rem; padding: 0; list-style: none; color: var(--dim); font-size: .85rem; }
""".strip()

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
{css}
</style>
</head>
<body>
<h1>{title}</h1>
<div class="scroll"><table>
<thead><tr>{heading}</tr></thead>
{bodies}
</table></div>
<ul>
{items}
</ul>
</body>
</html>
"""


def page(
    title: str,
    head: Sequence[str],
    lines: Sequence[tuple[Row, list[str]]],
    foot: Sequence[str],
    num_text: int,
    num_words: int = 0,
) -> str:
    """Lay out escaped texts; the first `num_text` columns and the last `num_words` are left-aligned.

    Hovering a number shows the ids of its runs.
    """
    words = {*range(num_text), *range(len(head) - num_words, len(head))}
    measured = [line for line in lines if line[0].kind != "printed"]
    printed = [line for line in lines if line[0].kind == "printed"]
    heading = "".join(f"<th{_text(index, words)}>{name}</th>" for index, name in enumerate(head))
    bodies = "\n".join(
        "<tbody>\n" + "\n".join(_line(row, cells, num_text, words) for row, cells in block) + "\n</tbody>"
        for block in (measured, printed)
        if block
    )
    items = "\n".join(f"<li>{text}</li>" for text in foot)
    return _PAGE.format(title=title, css=_CSS, heading=heading, bodies=bodies, items=items)


def _line(row: Row, cells: list[str], num_text: int, words: set[int]) -> str:
    out = []
    for index, text in enumerate(cells):
        cell = row.cells[index - num_text] if num_text <= index < num_text + len(row.cells) else None
        attributes = _text(index, words)
        if cell is not None and cell.value is None:
            attributes += ' class="missing"'
        if cell is not None and (cell.runs or cell.missing):
            hover = "; ".join(filter(None, ["runs " + " ".join(cell.runs) if cell.runs else "", cell.missing]))
            attributes += f' title="{html.escape(hover)}"'
        out.append(f"<td{attributes}>{text}</td>")
    return f"<tr>{''.join(out)}</tr>"


def _text(index: int, words: set[int]) -> str:
    return ' class="text"' if index in words else ""

"""A profile on the terminal and as Markdown: our numbers, published ones beside them, growth and remarks beneath."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dehaze_bench.counting import OWN, RULES
from dehaze_bench.profiling.rows import Row, growths, mode
from dehaze_bench.results.figures import with_prefix

if TYPE_CHECKING:
    from rich.console import Console

HEADS = {
    "params": "params",
    "macs": "MACs, ours",
    "macs_paper": "MACs, paper's rule",
    "latency": "latency [ms]",
    "throughput": "images/s",
    "log10_throughput": "log10 images/s",
    "memory": "memory",
    "top1": "top-1",
}
PUBLISHED_HEADS = {"macs_paper": "MACs", "latency": "latency [ms]"}
HEADS_OF_GROWTH = {"macs": "MACs", "latency": "latency", "memory": "memory"}
NOTHING = "–"
DIFFERS = "≠"


def grid(rows: Sequence[Row], columns: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return the heads and the cells; columns of published numbers stand beside ours where there are any."""
    trained = any(row.training for row in rows)
    batches = {row.batch for row in rows if row.model}
    head = ["", "size"] + (["mode"] if trained else []) + (["batch"] if len(batches) > 1 else [])
    shown: list[tuple[str, bool]] = []
    for column in columns:
        if any(row.value(column) is not None for row in rows) or not _published(rows, column):
            shown.append((column, False))
        if _published(rows, column):
            shown.append((column, True))
    head += [
        f"published {PUBLISHED_HEADS.get(c, HEADS.get(c, c))}" if printed else HEADS.get(c, c) for c, printed in shown
    ]
    notes = remarks(rows)
    lines = []
    for row in rows:
        numbers = [str(i) for i, text in enumerate(notes, start=1) if text in _texts(row)]
        line = [row.label + (f" ({', '.join(numbers)})" if numbers else ""), str(row.size) if row.size else NOTHING]
        line += [mode(row)] if trained else []
        line += [str(row.batch) if row.model else NOTHING] if len(batches) > 1 else []
        line += [_cell(row, column, printed) for column, printed in shown]
        lines.append(line)
    return head, lines


def remarks(rows: Sequence[Row]) -> list[str]:
    """Return what stands beneath a table, numbered from 1: why something is missing, notes, sources."""
    return list(dict.fromkeys(text for row in rows for text in _texts(row)))


def footer(rows: Sequence[Row]) -> list[str]:
    """Return growth and the meaning of marks as lines of text."""
    lines = []
    for (label, training), found in growths(rows).items():
        fitted = {name: growth for name, growth in found.items() if growth is not None}
        for over in dict.fromkeys((growth.num, growth.low, growth.high) for growth in fitted.values()):
            same = [f"{HEADS_OF_GROWTH[k]} {g}" for k, g in fitted.items() if (g.num, g.low, g.high) == over]
            where = f"{over[0]} sizes, {over[1]} to {over[2]} pixels a side"
            lines.append(
                f"{label}{', training' if training else ''}: pixels to the power of, {where}: {', '.join(same)}."
            )
    if lines:
        lines.append("Exponents: least squares on logarithms. Latency: median over the repeats, in brackets quartiles.")
    for name in dict.fromkeys(row.rule for row in rows if row.rule not in ("", OWN) and row.macs_paper is not None):
        lines.append(f"Rule {name}: {RULES[name].description}.")
    if any(row.differs(column) for row in rows for column in ("params", "macs_paper")):
        lines.append(f"{DIFFERS}: our count does not round to the published figure.")
    return lines


def to_markdown(title: str, rows: Sequence[Row], columns: Sequence[str], lines: Sequence[str]) -> str:
    """Write the profile as Markdown; `lines` follow the table."""
    head, cells = grid(rows, columns)
    rule = [":--"] + ["--:"] * (len(head) - 1)
    table = ["| " + " | ".join(map(_escape, line)) + " |" for line in (head, rule, *cells)]
    notes = [f"{i}. {_escape(text)}" for i, text in enumerate(remarks(rows), start=1)]
    text = [f"### {_escape(title)}", "", *table, "", *(f"- {_escape(line)}" for line in lines), "", *notes]
    return "\n".join(text).rstrip() + "\n"


def print_table(
    title: str, rows: Sequence[Row], columns: Sequence[str], lines: Sequence[str], console: Console | None = None
) -> None:
    """Show the profile on the terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    head, cells = grid(rows, columns)
    shown = Table(title=escape(title), title_justify="left", header_style="bold")
    for index, text in enumerate(head):
        shown.add_column(escape(text), justify="left" if index == 0 else "right", no_wrap=index == 0)
    several = len({row.label for row in rows}) < len(rows)
    for row, line, after in zip(rows, cells, [*rows[1:], None], strict=True):
        last = after is not None and after.label != row.label
        shown.add_row(*map(escape, line), end_section=last and several)
    # A pipe has no width; a table squeezed into 80 columns would be hard to read in a log.
    console = console or (Console() if sys.stdout.isatty() else Console(width=160))
    console.print(shown)
    for text in [*lines, *(f"({i}) {text}" for i, text in enumerate(remarks(rows), start=1))]:
        console.print(f"[dim]{escape(text)}[/dim]")


def _published(rows: Sequence[Row], column: str) -> bool:
    return any(row.printed(column) is not None for row in rows)


def _texts(row: Row) -> list[str]:
    source = f"published: {row.source}" if row.source else ""
    return [text for text in (row.error, row.note, source) if text]


def _cell(row: Row, column: str, printed: bool) -> str:
    value = row.printed(column) if printed else row.value(column)
    if value is None:
        return NOTHING
    if column == "latency":
        spread = "" if printed or row.spread is None else f" ({row.spread[0] * 1e3:.3g}–{row.spread[1] * 1e3:.3g})"
        return f"{value * 1e3:.3g}{spread}"
    if column == "throughput":
        return f"{value:.3g}"
    if column == "log10_throughput":
        return f"{value:.2f}"
    if column in ("params", "macs", "macs_paper", "memory"):
        text = plain(value) if printed else with_prefix(value)
        if column == "memory":
            text += "B" if " " in text else " B"
        if printed:
            return text + (f" {DIFFERS}" if row.differs(column) else "")
        return text + (f" ({row.rule})" if column == "macs_paper" and row.rule != OWN else "")
    return f"{value:g}"


def plain(value: float) -> str:
    """Write a published figure with an SI prefix and no more digits than it has: 7e6 is '7 M', 189.5e9 '189.5 G'."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {prefix}"
    return f"{value:g}"


def _escape(text: str) -> str:
    return re.sub(r"([\\`*_|<>$~\[\]])", r"\\\1", text)

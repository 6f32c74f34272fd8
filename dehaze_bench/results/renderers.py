"""A table as Markdown, LaTeX, HTML, CSV, JSON or on the terminal."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.results import page
from dehaze_bench.results.cells import Row, Table
from dehaze_bench.results.files import strict
from dehaze_bench.results.grid import Style, make_grid
from dehaze_bench.results.latex import to_latex

if TYPE_CHECKING:
    from rich.console import Console

FORMATS = ("md", "csv", "tex", "html", "json")


def render(table: Table, form: str) -> str:
    """Write a table as "md", "csv", "tex", "html" (a whole page, nothing loaded from elsewhere) or "json".

    The CSV is long: one line per cell with everything that cell knows, for a spreadsheet or a data frame. The JSON
    has all of it, comparisons, ranks and small print included.

    Raises:
        UsageError: unknown format.
    """
    writers = {"md": _markdown, "csv": _csv, "tex": to_latex, "html": _html, "json": _json}
    if form not in writers:
        raise UsageError(f"unknown table format '{form}'. {nearest(form, writers)}")
    return writers[form](table)


def print_table(table: Table, console: Console | None = None) -> None:
    """Show a table on the terminal; a pipe, which has no width, gets lines that are easy to read in a log."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    style = Style(escape, "[bold]{}[/bold]", "[underline]{}[/underline]", "[dim]({})[/dim]")
    grid = make_grid(table, style)
    shown = RichTable(title=escape(table.title), title_justify="left", header_style="bold")
    words = {*range(grid.num_text), *range(len(grid.head) - grid.num_words, len(grid.head))}
    for index, head in enumerate(grid.head):
        shown.add_column(head, justify="left" if index in words else "right")
    previous = None
    for row, line in grid.lines:
        if previous and previous.kind != "printed" and row.kind == "printed":
            shown.add_section()
        shown.add_row(*line)
        previous = row
    console = console or (Console() if sys.stdout.isatty() else Console(width=200 if table.baseline else 120))
    console.print(shown)
    for text in grid.foot:
        console.print(f"[dim]{text}[/dim]")


def _markdown(table: Table) -> str:
    grid = make_grid(table, Style(_escape_markdown, "**{}**", "<u>{}</u>", "<sup>{}</sup>"))
    numbers = len(grid.head) - grid.num_text - grid.num_words
    rule = [":--"] * grid.num_text + ["--:"] * numbers + [":--"] * grid.num_words
    lines = [f"### {_escape_markdown(table.title)}", ""]
    lines += ["| " + " | ".join(cells) + " |" for cells in (grid.head, rule, *(line for _, line in grid.lines))]
    # What begins like a heading, a list or a rule would be one.
    foot = [re.sub(r"^(#|[-+=]|\d+(?=[.)]))", r"\\\1", text) for text in grid.foot]
    return "\n".join([*lines, "", *(f"- {text}" for text in foot)]) + "\n"


def _escape_markdown(text: str) -> str:
    text = re.sub(r"([\\`*_|<>$~\[\]]|&(?=#?\w+;))", r"\\\1", text)
    return re.sub(r"\s", " ", text)


def _html(table: Table) -> str:
    note = "<sup>{}</sup>"
    style = Style(html.escape, "<strong>{}</strong>", '<span class="second">{}</span>', note)
    grid = make_grid(table, style)
    return page.page(html.escape(table.title), grid.head, grid.lines, grid.foot, grid.num_text, grid.num_words)


_CSV_HEAD = (
    *("label", "kind", "untrained", "column", "value", "std", "n", "runs"),
    *("testset", "protocol", "select", "higher", "mark", "flagged", "missing", "remark"),
    *("baseline", "difference", "low", "high", "p", "p_holm", "p_seeds", "n_paired", "unit", "verdict"),
)


def _csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_CSV_HEAD)
    for row in table.rows:
        for cell in row.cells:
            testset, protocol, select = cell.group or ("", "", "")
            numbers = ["" if value is None else repr(value) for value in (cell.value, cell.std)]
            known = [row.label, row.kind, row.untrained, cell.column, *numbers, cell.n, " ".join(cell.runs)]
            known += [testset, protocol, select or "", "" if cell.higher is None else cell.higher]
            compared = _compared(row) if cell.column == table.compared else [""] * 10
            line = [*known, cell.mark, cell.flagged, cell.missing, row.remark, *compared]
            writer.writerow([_inert(item) if isinstance(item, str) else item for item in line])
    return out.getvalue()


def _inert(text: str) -> str:
    """Return a text that a spreadsheet shows and does not compute; numbers stay numbers."""
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
    return text


def _compared(row: Row) -> list[Any]:
    found = row.comparison
    if found is None:
        return [""] * 9 + [row.incomparable]
    numbers = (found.difference, found.low, found.high, found.p, found.adjusted, found.p_seeds)
    written = ["" if number is None else repr(number) for number in numbers]
    return [found.baseline, *written, found.n, found.unit, found.words]


def _json(table: Table) -> str:
    rows = []
    for row in table.rows:
        plain = asdict(row)
        if row.comparison is not None:
            plain["comparison"] |= {"verdict": row.comparison.verdict, "words": row.comparison.words}
        for cell in (plain, *plain["cells"]):
            group = cell["group"]
            cell["group"] = None if group is None else dict(zip(("testset", "protocol", "select"), group, strict=True))
        rows.append(plain)
    ranks = None
    if table.ranks is not None:
        ranks = asdict(table.ranks) | {"cliques": [[*clique] for clique in table.ranks.cliques]}
    whole: dict[str, Any] = {"name": table.name, "title": table.title, "columns": table.columns, "rows": rows}
    whole |= {"baseline": table.baseline, "compared": table.compared, "ranks": ranks}
    whole |= {"footer": table.footer, "notes": table.notes}
    return json.dumps(strict(whole), indent=1, allow_nan=False, ensure_ascii=False) + "\n"

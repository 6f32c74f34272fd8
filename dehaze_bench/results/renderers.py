"""A table as Markdown, LaTeX, HTML, CSV or on the terminal; all but CSV share one grid of texts."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.results import page
from dehaze_bench.results.cells import NO_SELECTION, Cell, Row, Table
from dehaze_bench.results.experiment import COST_COLUMNS
from dehaze_bench.results.figures import figure, title

if TYPE_CHECKING:
    from rich.console import Console

FORMATS = ("md", "csv", "tex", "html")
FLAG_LINE = "†: measured under another protocol or on another test set than the rows above; not comparable."


@dataclass(frozen=True)
class Style:
    """How one output format escapes text and writes marks; the templates take the escaped text."""

    escape: Callable[[str], str]
    best: str
    second: str
    note: str


@dataclass(frozen=True)
class Grid:
    """The texts of a table in one style: heading, lines (with the row they come from) and the small print."""

    head: list[str]
    lines: list[tuple[Row, list[str]]]
    foot: list[str]
    num_text: int


def render(table: Table, form: str) -> str:
    """Write a table as "md", "csv", "tex" or "html" (a whole page, nothing loaded from elsewhere).

    The CSV is long: one line per cell with everything that cell knows, for a spreadsheet or a data frame.

    Raises:
        UsageError: unknown format.
    """
    writers = {"md": _markdown, "csv": _csv, "tex": _tex, "html": _html}
    if form not in writers:
        raise UsageError(f"unknown table format '{form}'. {nearest(form, writers)}")
    return writers[form](table)


def print_table(table: Table, console: Console | None = None) -> None:
    """Show a table on the terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    style = Style(escape, "[bold]{}[/bold]", "[underline]{}[/underline]", "[dim]({})[/dim]")
    grid = _grid(table, style)
    shown = RichTable(title=escape(table.title), title_justify="left", header_style="bold")
    for index, head in enumerate(grid.head):
        shown.add_column(head, justify="left" if index < grid.num_text else "right")
    previous = None
    for row, line in grid.lines:
        if previous and previous.kind != "printed" and row.kind == "printed":
            shown.add_section()
        shown.add_row(*line)
        previous = row
    console = console or Console()
    console.print(shown)
    for text in grid.foot:
        console.print(f"[dim]{text}[/dim]")


def _grid(table: Table, style: Style) -> Grid:
    groups = [row.group for row in table.rows if row.group]
    extra = [
        (name, index)
        for index, name in enumerate(("test set", "protocol", "selection"))
        if len({group[index] for group in groups} - {None, NO_SELECTION}) > 1
    ]
    arrows = {True: " ↑", False: " ↓", None: ""}
    head = ["", "kind", *(title(column) + arrows[table.higher(column)] for column in table.columns), "n"]
    lines = []
    for row in table.rows:
        label = style.escape(row.label) + (style.note.format(row.note) if row.note else "")
        kind = f"{row.kind}, untrained" if row.untrained else row.kind
        cells = [_cell_text(cell, row, style) for cell in row.cells]
        others = [style.escape((row.group[index] if row.group else None) or "–") for _, index in extra]
        lines.append((row, [label, style.escape(kind), *cells, style.escape(_count(row)), *others]))
    foot = [FLAG_LINE] if any(cell.flagged for row in table.rows for cell in row.cells) else []
    foot = [style.escape(text) for text in [*table.footer, *foot]]
    notes = [f"{style.note.format(n)} {style.escape(text)}" for n, text in enumerate(table.notes, start=1)]
    return Grid([style.escape(name) for name in [*head, *(name for name, _ in extra)]], lines, foot + notes, 2)


def _cell_text(cell: Cell, row: Row, style: Style) -> str:
    if cell.value is None:
        silent = row.kind == "printed" or cell.column in COST_COLUMNS
        return style.escape("–" if silent else cell.missing.split(":")[0])
    text = figure(cell.column, cell.value, printed=cell.kind == "printed")
    if cell.std is not None:
        text += f" ± {figure(cell.column, cell.std)}"
    if cell.runs and cell.n != row.done:
        text += f" (n = {cell.n})"
    text = style.escape(text + (" †" if cell.flagged else ""))
    return {"": "{}", "best": style.best, "second": style.second}[cell.mark].format(text)


def _count(row: Row) -> str:
    if row.kind == "printed":
        return "–"
    return str(row.done) if row.done == row.planned else f"{row.done} of {row.planned}"


def _markdown(table: Table) -> str:
    def escape(text: str) -> str:
        return re.sub(r"([\\`*_|<>$~\[\]])", r"\\\1", text).replace("\n", " ")

    grid = _grid(table, Style(escape, "**{}**", "<u>{}</u>", "<sup>{}</sup>"))
    rule = [":--"] * grid.num_text + ["--:"] * (len(grid.head) - grid.num_text)
    lines = [f"### {escape(table.title)}", ""]
    lines += ["| " + " | ".join(cells) + " |" for cells in (grid.head, rule, *(line for _, line in grid.lines))]
    return "\n".join([*lines, "", *(f"- {text}" for text in grid.foot)]) + "\n"


_TEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "†": r"$^{\dagger}$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "≥": r"$\geq$",
    "∞": r"$\infty$",
    "–": "--",
    **{char: f"{{{char}}}" for char in "[]*"},  # a line that starts with one would be read as an option of \\
    "\n": " ",
}


def _tex(table: Table) -> str:
    def escape(text: str) -> str:
        return "".join(_TEX.get(char, char) for char in text)

    grid = _grid(table, Style(escape, r"\textbf{{{}}}", r"\underline{{{}}}", r"\textsuperscript{{{}}}"))
    align = "l" * grid.num_text + "r" * (len(grid.head) - grid.num_text)
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table}", r"\centering"]
    lines += [rf"\caption{{{escape(table.title)}}}", rf"\label{{tab:{table.name}}}"]
    lines += [rf"\begin{{tabular}}{{{align}}}", r"\toprule", " & ".join(grid.head) + r" \\", r"\midrule"]
    previous = None
    for row, cells in grid.lines:
        if previous and previous.kind != "printed" and row.kind == "printed":
            lines.append(r"\midrule")
        lines.append(" & ".join(cells) + r" \\")
        previous = row
    lines += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip\raggedright\footnotesize"]
    return "\n".join([*lines, *(text + r"\par" for text in grid.foot), r"\end{table}"]) + "\n"


def _html(table: Table) -> str:
    note = "<sup>{}</sup>"
    style = Style(html.escape, "<strong>{}</strong>", '<span class="second">{}</span>', note)
    grid = _grid(table, style)
    return page.page(html.escape(table.title), grid.head, grid.lines, grid.foot, grid.num_text)


_CSV_HEAD = (
    *("label", "kind", "untrained", "column", "value", "std", "n", "runs"),
    *("testset", "protocol", "select", "higher", "mark", "flagged", "missing", "remark"),
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
            writer.writerow([*known, cell.mark, cell.flagged, cell.missing, row.remark])
    return out.getvalue()

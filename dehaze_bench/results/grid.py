"""The texts of a table in one style, from which every format but CSV and JSON is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dehaze_bench.results.cells import NO_SELECTION, Cell, Row, Table
from dehaze_bench.results.comparisons import Comparison
from dehaze_bench.results.experiment import COST_COLUMNS
from dehaze_bench.results.figures import figure, p_text, signed, title

FLAG_LINE = "†: measured under another protocol or on another test set than the rows above; not comparable."
NOTHING = "–"


@dataclass(frozen=True)
class Style:
    """How one output format escapes text and writes marks; the templates take the escaped text."""

    escape: Callable[[str], str]
    best: str
    second: str
    note: str


@dataclass(frozen=True)
class Grid:
    """Escaped texts: heading, lines (with the row they come from) and the small print.

    The first `num_text` columns and the last `num_words` are words, those between are numbers.
    """

    head: list[str]
    lines: list[tuple[Row, list[str]]]
    foot: list[str]
    num_text: int
    num_words: int = 0


def make_grid(table: Table, style: Style) -> Grid:
    """Write every cell; a column for what rows differ in stands only where they do."""
    groups = [row.group for row in table.rows if row.group]
    extra = [
        (name, index)
        for index, name in enumerate(("test set", "protocol", "selection"))
        if len({group[index] for group in groups} - {None, NO_SELECTION}) > 1
    ]
    judged = table.baseline is not None
    arrows = {True: " ↑", False: " ↓", None: ""}
    head = ["", "kind", *(title(column) + arrows[table.higher(column)] for column in table.columns), "n"]
    head += _heads(table) if judged else []
    lines = []
    for row in table.rows:
        label = style.escape(row.label) + (style.note.format(row.note) if row.note else "")
        kind = f"{row.kind}, untrained" if row.untrained else row.kind
        cells = [_cell_text(cell, row, style) for cell in row.cells]
        others = _judgement(row, table) if judged else []
        others += [(row.group[index] if row.group else None) or NOTHING for _, index in extra]
        lines.append((row, [label, *map(style.escape, [kind]), *cells, *map(style.escape, [_count(row), *others])]))
    foot = [FLAG_LINE] if any(cell.flagged for row in table.rows for cell in row.cells) else []
    foot = [style.escape(text) for text in [*table.footer, *foot]]
    notes = [f"{style.note.format(n)} {style.escape(text)}" for n, text in enumerate(table.notes, start=1)]
    words = len(extra) + judged
    return Grid([style.escape(name) for name in [*head, *(name for name, _ in extra)]], lines, foot + notes, 2, words)


def interval_text(comparison: Comparison) -> str:
    """Write a difference with its interval: '+0.52 [+0.31, +0.74]'."""
    text = signed(comparison.metric, comparison.difference)
    if comparison.low is None or comparison.high is None:
        return text
    return f"{text} [{signed(comparison.metric, comparison.low)}, {signed(comparison.metric, comparison.high)}]"


def _heads(table: Table) -> list[str]:
    unit = next((row.comparison.unit for row in table.rows if row.comparison), "images")
    return [f"Δ {title(table.compared)} [95 %]", "p (Holm)", f"n {unit}", f"vs. {table.baseline}"]


def _judgement(row: Row, table: Table) -> list[str]:
    if row.comparison is not None:
        found = row.comparison
        return [interval_text(found), p_text(found.adjusted), str(found.n), found.words]
    if row.kind != "printed" and row.label == table.baseline:
        return [NOTHING, NOTHING, NOTHING, "(baseline)"]
    return [NOTHING, NOTHING, NOTHING, row.incomparable or NOTHING]


def _cell_text(cell: Cell, row: Row, style: Style) -> str:
    if cell.value is None:
        silent = row.kind == "printed" or cell.column in COST_COLUMNS
        return style.escape(NOTHING if silent else cell.missing.split(":")[0])
    text = figure(cell.column, cell.value, printed=cell.kind == "printed")
    if cell.std is not None:
        text += f" ± {figure(cell.column, cell.std)}"
    if cell.runs and cell.n != row.done:
        text += f" (n = {cell.n})"
    text = style.escape(text + (" †" if cell.flagged else ""))
    return {"": "{}", "best": style.best, "second": style.second}[cell.mark].format(text)


def _count(row: Row) -> str:
    if row.kind == "printed":
        return NOTHING
    return str(row.done) if row.done == row.planned else f"{row.done} of {row.planned}"

"""A table as the report shows it: texts for the reader, values to sort by, and where every number comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dehaze_bench.results.cells import NO_SELECTION, Cell, Row, Table
from dehaze_bench.results.experiment import COST_COLUMNS
from dehaze_bench.results.figures import figure, p_text, signed, title
from dehaze_bench.results.pareto import points
from dehaze_bench.results.report.gathering import RunPage
from dehaze_bench.results.report.matrix import Matrix
from dehaze_bench.results.samples import Unit

ARROWS = {True: "↑", False: "↓", None: ""}


@dataclass(frozen=True)
class Board:
    """A table to show; rows are compared by the metric `compare` over `unit` (its first metric where it lacks that)."""

    table: Table
    compare: str = "psnr"
    unit: Unit = "images"

    @property
    def metrics(self) -> list[str]:
        return [column for column in self.table.columns if column not in COST_COLUMNS]

    @property
    def metric(self) -> str | None:
        return self.compare if self.compare in self.metrics else next(iter(self.metrics), None)


@dataclass(frozen=True)
class Head:
    """A column that can be sorted by; `best` is the order that shows the best first.

    Where a row has a `spread`, all keep room for one: values then stand in line.
    """

    name: str
    title: str
    arrow: str
    best: str
    spread: bool


@dataclass(frozen=True)
class CellView:
    """`value` is what the column sorts by, empty where there is no number."""

    text: str
    spread: str
    value: str
    mark: str
    flagged: bool
    missing: str


@dataclass(frozen=True)
class JudgementView:
    """A row against the baseline of its table; `value` and `p` sort, `words` say what may be said."""

    difference: str
    interval: str
    value: str
    p: str
    p_text: str
    words: str
    tone: str


@dataclass(frozen=True)
class LineView:
    label: str
    kind: str
    untrained: bool
    note: int | None
    cells: tuple[CellView, ...]
    count: str
    judgement: JudgementView
    places: tuple[str, ...]


@dataclass(frozen=True)
class BoardView:
    """All that the template of a board needs; `facts` is what the page's script needs, ready for JSON."""

    key: str
    table: Table
    heads: tuple[Head, ...]
    places: tuple[tuple[str, tuple[str, ...]], ...]
    kinds: tuple[str, ...]
    lines: tuple[LineView, ...]
    matrices: tuple[Matrix, ...]
    problems: tuple[str, ...]
    facts: dict[str, Any]

    @property
    def plotted(self) -> tuple[list[str], list[str]]:
        """The costs and the qualities that at least two rows have a point for."""
        plots = self.facts["plots"]
        return list(plots), list(dict.fromkeys(metric for by_metric in plots.values() for metric in by_metric))

    @property
    def baseline(self) -> str | None:
        return self.table.baseline

    @property
    def condition(self) -> str:
        """Which rows the plot shows, where it cannot be all."""
        if not self.places:
            return ""
        return "Rows of one test set, protocol and selection rule only: others have no place in one plot."

    @property
    def flagged(self) -> bool:
        return any(cell.flagged for line in self.lines for cell in line.cells)


def view_board(
    key: str, board: Board, pages: Mapping[str, RunPage], matrices: Sequence[Matrix], problems: Sequence[str]
) -> BoardView:
    """Lay out a board; `pages` are those of its runs, by id."""
    table = board.table
    places = _places(table)
    heads = [_head(table, column) for column in table.columns]
    return BoardView(
        key=key,
        table=table,
        heads=tuple(heads),
        places=tuple((name, values) for name, _, values in places),
        kinds=tuple(dict.fromkeys(row.kind for row in table.rows)),
        lines=tuple(_line(row, table, [index for _, index, _ in places]) for row in table.rows),
        matrices=tuple(matrices),
        problems=tuple(problems),
        facts=_facts(board, pages),
    )


def _head(table: Table, column: str) -> Head:
    higher = table.higher(column)
    spread = any(cell.std is not None for row in table.rows for cell in row.cells if cell.column == column)
    return Head(column, title(column), ARROWS[higher], "desc" if higher else "asc", spread)


def _places(table: Table) -> list[tuple[str, int, tuple[str, ...]]]:
    """What rows of one table may differ in, so that it needs a column: its name, index in the group, and values."""
    found = []
    for index, name in enumerate(("test set", "protocol", "selection")):
        values = dict.fromkeys(row.group[index] for row in table.rows if row.group)
        known = [value for value in values if value not in (None, NO_SELECTION)]
        if len(known) > 1:
            found.append((name, index, tuple(str(value) for value in values if value is not None)))
    return found


def _line(row: Row, table: Table, places: Sequence[int]) -> LineView:
    if row.kind == "printed":
        count = "–"
    else:
        count = str(row.done) if row.done == row.planned else f"{row.done} of {row.planned}"
    return LineView(
        label=row.label,
        kind=row.kind,
        untrained=row.untrained,
        note=row.note,
        cells=tuple(_cell(cell, row) for cell in row.cells),
        count=count,
        judgement=_judgement(row, table),
        places=tuple((row.group[index] if row.group else None) or "–" for index in places),
    )


def _cell(cell: Cell, row: Row) -> CellView:
    if cell.value is None:
        silent = row.kind == "printed" or cell.column in COST_COLUMNS
        return CellView("–", "", "", "", False, "" if silent else cell.missing)
    text = figure(cell.column, cell.value, printed=cell.kind == "printed")
    spread = "" if cell.std is None else figure(cell.column, cell.std)
    value = "" if math.isnan(cell.value) else repr(cell.value).replace("inf", "Infinity")
    return CellView(text, spread, value, cell.mark, cell.flagged, "")


def _judgement(row: Row, table: Table) -> JudgementView:
    found = row.comparison
    if found is None:
        is_baseline = row.kind != "printed" and row.label == table.baseline
        return JudgementView("–", "", "", "", "–", "baseline" if is_baseline else row.incomparable or "–", "")
    bounds = [] if found.low is None or found.high is None else [found.low, found.high]
    interval = ", ".join(signed(found.metric, bound) for bound in bounds)
    return JudgementView(
        difference=signed(found.metric, found.difference),
        interval=f"[{interval}]" if interval else "",
        value=repr(found.difference) if math.isfinite(found.difference) else "",
        p=repr(found.adjusted),
        p_text=p_text(found.adjusted),
        words=found.words,
        tone=found.verdict if found.words == found.verdict else "",
    )


def _plots(table: Table, costs: Sequence[str], metrics: Sequence[str]) -> dict[str, dict[str, list[list[int]]]]:
    """By cost and quality the rows that make points, as pairs of the row's place and whether it is on the front."""
    plots: dict[str, dict[str, list[list[int]]]] = {}
    for cost in costs:
        for metric in metrics:
            places: list[list[int]] = []
            rows = enumerate(table.rows)  # points come in the order of rows, of which they leave some out
            for point in points(table, cost, metric):
                index = next(i for i, row in rows if (row.label, row.kind) == (point.label, point.kind))
                if point.cost > 0 and math.isfinite(point.quality):
                    places.append([index, int(point.front)])
            if len(places) > 1:
                plots.setdefault(cost, {})[metric] = places
    return plots


def _facts(board: Board, pages: Mapping[str, RunPage]) -> dict[str, Any]:
    table = board.table
    metrics, costs = board.metrics, [column for column in table.columns if column in COST_COLUMNS]
    runs = sorted({run for row in table.rows for cell in row.cells for run in cell.runs})
    return {
        "titles": {column: title(column) for column in table.columns},
        "plots": _plots(table, costs, metrics),
        "rows": [_row_facts(row, costs, metrics) for row in table.rows],
        "runs": {run: _run_facts(pages[run]) for run in runs if run in pages},
    }


def _row_facts(row: Row, costs: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    cells = {cell.column: cell for cell in row.cells}
    finite = {c: cell.value for c, cell in cells.items() if cell.value is not None and math.isfinite(cell.value)}
    return {
        "label": row.label,
        "kind": "untrained" if row.untrained else row.kind,
        "flagged": any(cell.flagged for cell in row.cells),
        "remark": row.remark,
        "place": list(row.group) if row.group else None,
        "choices": row.choices,
        "cost": {column: finite[column] for column in costs if column in finite},
        "quality": {column: finite[column] for column in metrics if column in finite},
        "cells": [
            {
                "column": cell.column,
                "text": "–" if cell.value is None else figure(cell.column, cell.value, cell.kind == "printed"),
                "exact": "" if cell.value is None else _exact(cell),
                "std": "" if cell.std is None else repr(cell.std),
                "n": cell.n,
                "runs": list(cell.runs),
                "missing": cell.missing,
            }
            for cell in row.cells
        ],
    }


def _exact(cell: Cell) -> str:
    assert cell.value is not None
    whole = cell.column in COST_COLUMNS and math.isfinite(cell.value) and cell.value == int(cell.value)
    return f"{cell.value:,.0f}" if whole else repr(cell.value)


def _run_facts(page: RunPage) -> dict[str, Any]:
    record = page.run.record
    assert record is not None
    return {
        "page": f"runs/{page.key}.html",
        "dir": record.dir,
        "seed": record.seed,
        "images": record.evaluation.n,
        "step": record.evaluation.step,
        "select": record.evaluation.select,
        "note": record.evaluation.protocol_note,
        "decoder": record.evaluation.decoder,
        "device": str(record.env.get("device_name") or record.env.get("device") or ""),
        "finished": record.finished,
    }

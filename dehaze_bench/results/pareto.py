"""Which rows are worth their cost: the points of a table that nothing beats in quality and in cost at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dehaze_bench.results.cells import NO_SELECTION, Group, Row, Table


@dataclass(frozen=True)
class Point:
    """A row by cost and quality; `std` is that over seeds, `front` says that no measured row beats it in both."""

    label: str
    kind: str
    cost: float
    quality: float
    std: float | None
    front: bool = False


def points(table: Table, cost: str, metric: str) -> list[Point]:
    """The rows that may share a plot, in the order of the table: those of one test set, protocol and selection rule.

    That is the group of the baseline, or else of the first measured row. Printed rows of the same test set and
    protocol are there too, but make no front.
    """
    group = _group(table)
    if group is None:
        return []
    found: list[tuple[Row, float, float, float | None]] = []
    for row in table.rows:
        cells = {cell.column: cell for cell in row.cells}
        price, score = cells.get(cost), cells.get(metric)
        if price is None or score is None or price.value is None or score.value is None:
            continue
        if _may_join(row, group):
            found.append((row, price.value, score.value, score.std))
    higher = table.higher(metric) is not False
    measured = [(price, score) for row, price, score, _ in found if row.kind != "printed"]
    return [
        Point(
            row.label, row.kind, price, score, std, row.kind != "printed" and on_front(price, score, measured, higher)
        )
        for row, price, score, std in found
    ]


def on_front(cost: float, quality: float, others: Sequence[tuple[float, float]], higher: bool = True) -> bool:
    """Whether nothing is as good in cost and quality and better in one of them; a lower cost is better."""
    sign = 1 if higher else -1
    return not any(
        price <= cost and sign * score >= sign * quality and (price, score) != (cost, quality)
        for price, score in others
    )


def _group(table: Table) -> Group | None:
    rows = [row for row in table.rows if row.kind != "printed" and row.group]
    first = next((row.group for row in rows if row.label == table.baseline), None)
    chosen = [row.group for row in rows if row.group and row.group.select != NO_SELECTION]
    if first is not None and first.select != NO_SELECTION:
        return first
    same = [group for group in chosen if first is None or group[:2] == first[:2]]
    return next(iter(same), first or next((row.group for row in rows), None))


def _may_join(row: Row, group: Group) -> bool:
    if row.group is None or row.group[:2] != group[:2]:
        return False
    return row.kind == "printed" or row.group.select in (group.select, NO_SELECTION) or group.select == NO_SELECTION

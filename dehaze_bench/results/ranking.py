"""Honours: which cell is best, which second best.

Best and second best are marked only among measured cells of one group: same test set, same protocol,
same rule for selecting the weights. Where nothing was selected (identity, a prior, published weights) a row
competes under every rule. Printed numbers never compete.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from dehaze_bench.results.cells import NO_SELECTION, Cell, Group, Mark, Row
from dehaze_bench.results.figures import decimals


def mark_best(rows: list[Row]) -> list[Row]:
    """Mark best and second best per column and group; values that look equal when printed share the mark."""
    marks: dict[tuple[int, int], list[Mark]] = {}
    for position in range(len(rows[0].cells) if rows else 0):
        for entries in _contests([row.cells[position] for row in rows]):
            for index, mark in _judge(entries).items():
                marks.setdefault((index, position), []).append(mark)
    return [
        replace(
            row,
            cells=tuple(
                replace(cell, mark=_least(marks.get((index, position), []))) for position, cell in enumerate(row.cells)
            ),
        )
        for index, row in enumerate(rows)
    ]


def _contests(cells: Sequence[Cell]) -> list[list[tuple[float, int]]]:
    """Per group the entries (larger is better, index); a cell without a selection enters every contest it can."""
    entries = [
        (cell.group, round(cell.value, decimals(cell.column)) * (1 if cell.higher else -1), index)
        for index, cell in enumerate(cells)
        if cell.group and cell.higher is not None and cell.value is not None and not math.isnan(cell.value)
    ]
    places = {group[:2] for group, _, _ in entries}
    selected = {group for group, _, _ in entries if group.select != NO_SELECTION}
    contests = selected | {Group(*place, NO_SELECTION) for place in places - {group[:2] for group in selected}}
    return [
        [
            (shown, index)
            for group, shown, index in entries
            if group[:2] == contest[:2] and group.select in (contest.select, NO_SELECTION)
        ]
        for contest in contests
    ]


def _judge(entries: list[tuple[float, int]]) -> dict[int, Mark]:
    levels = sorted({shown for shown, _ in entries}, reverse=True)
    num_best = sum(shown == levels[0] for shown, _ in entries)
    honours: dict[float, Mark] = {}
    if len(levels) > 1:  # otherwise nothing beats anything: one row only, or all equal
        honours[levels[0]] = "best"
    if len(levels) > 1 and num_best == 1:
        honours[levels[1]] = "second"
    return {index: honours.get(shown, "") for shown, index in entries}


def _least(marks: Sequence[Mark]) -> Mark:
    """The mark of a cell that took part in several contests: only what it earned in all of them."""
    return next((mark for mark in ("", "second", "best") if mark in marks), "")

"""Order and honours: which row comes first, which cell is best.

Best and second best are marked only among measured cells of one group: same test set, same protocol,
same rule for selecting the weights. Printed numbers never compete.
"""

from __future__ import annotations

from dataclasses import replace

from dehaze_bench.results.cells import Group, Mark, Row
from dehaze_bench.results.experiment import COST_COLUMNS
from dehaze_bench.results.figures import decimals


def mark_best(rows: list[Row]) -> list[Row]:
    """Mark best and second best per column and group; values that look equal when printed share the mark."""
    marks: dict[tuple[int, int], Mark] = {}
    contests: dict[tuple[int, Group], list[tuple[float, int]]] = {}
    for index, row in enumerate(rows):
        for position, cell in enumerate(row.cells):
            if cell.group and cell.higher is not None and cell.value is not None and cell.value == cell.value:
                shown = round(cell.value, decimals(cell.column))
                entry = (shown if cell.higher else -shown, index)
                contests.setdefault((position, cell.group), []).append(entry)
    for (position, _), entries in contests.items():
        levels = sorted({shown for shown, _ in entries}, reverse=True)
        if len(levels) < 2:
            continue  # nothing beats anything: one row only, or all equal
        best = [index for shown, index in entries if shown == levels[0]]
        second = [index for shown, index in entries if shown == levels[1]] if len(best) == 1 else []
        marks |= {(index, position): "best" for index in best}
        marks |= {(index, position): "second" for index in second}
    return [
        replace(
            row,
            cells=tuple(replace(c, mark=marks.get((index, position), "")) for position, c in enumerate(row.cells)),
        )
        for index, row in enumerate(rows)
    ]


def sort_rows(rows: list[Row], column: str | None, higher: bool | None = None) -> list[Row]:
    """Best first by one column, rows without a value last; costs sort upwards.

    `higher` is for rows that do not know which way their column is better (printed ones); where nobody knows,
    the order stays as it is.
    """
    if column is None:
        return rows
    higher = next((c.higher for row in rows for c in row.cells if c.column == column and c.higher is not None), higher)
    if higher is None and column not in COST_COLUMNS:
        return rows

    def key(row: Row) -> tuple[bool, float]:
        cell = next(cell for cell in row.cells if cell.column == column)
        if cell.value is None or cell.value != cell.value:
            return True, 0.0
        return False, -cell.value if higher else cell.value

    return sorted(rows, key=key)

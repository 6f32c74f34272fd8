"""Which differences between the rows of a table are more than chance: every pair on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dehaze_bench.errors import UsageError
from dehaze_bench.results.cells import NO_SELECTION, Cell, Group, Row, Table
from dehaze_bench.results.comparisons import ALPHA, CONFIDENCE, Comparison, holm
from dehaze_bench.results.rank_tests import RankTest
from dehaze_bench.results.samples import Sample, Unit, read_sample
from dehaze_bench.results.significance import compare_rows, rank_rows

LARGEST = 20  # more rows are a wallpaper, and their pairs grow with the square
_OPPOSITE = {"better": "worse", "worse": "better"}


@dataclass(frozen=True)
class Pair:
    """A row minus another in the unit of the metric; `words` say what may be said of it, `tone` how it is coloured."""

    difference: float
    low: float | None
    high: float | None
    p: float
    words: str

    @property
    def tone(self) -> str:
        first, _, limits = self.words.partition(" ")
        return "" if first not in _OPPOSITE else f"{first} limited" if limits else first


@dataclass(frozen=True)
class Matrix:
    """`cells[i][j]` is row i minus row j, None on the diagonal; `n` counts what was paired, of `unit`."""

    metric: str
    testset: str
    labels: tuple[str, ...]
    cells: tuple[tuple[Pair | None, ...], ...]
    ranks: tuple[float, ...]
    n: int
    unit: str
    caption: str


def compare_all(
    table: Table, metric: str | None, unit: Unit, folders: Mapping[str, Path]
) -> tuple[list[Matrix], list[str]]:
    """Compare measured rows that may be compared, pair by pair and by one metric, best first; `folders` hold the runs.

    Returns the matrices and, in words, what could not be compared.
    """
    found, problems = [], []
    for group, members in _contests(table, metric).items():
        higher = bool(members[0][1].higher)
        members.sort(key=lambda member: (member[1].value or 0.0) * (-1 if higher else 1))
        try:
            samples = [_read(row, cell, folders) for row, cell in members[:LARGEST]]
            found.append(_compare(samples, higher, unit, group, len(members) - len(samples)))
        except UsageError as error:
            problems.append(str(error))
    return found, problems


def _contests(table: Table, metric: str | None) -> dict[Group, list[tuple[Row, Cell]]]:
    """Rows that share test set, protocol and selection; where nothing was selected a row takes part everywhere."""
    entries: list[tuple[Group, Row, Cell]] = []
    for row in table.rows:
        cell = next((cell for cell in row.cells if cell.column == metric), None)
        if row.kind != "printed" and row.group and cell and cell.runs and cell.value is not None:
            entries.append((row.group, row, cell))
    selected = {group: None for group, _, _ in entries if group.select != NO_SELECTION}
    places = {group[:2] for group in selected}
    groups = [*selected, *(group for group in dict.fromkeys(g for g, _, _ in entries) if group[:2] not in places)]
    contests = {
        contest: [
            (row, cell)
            for group, row, cell in entries
            if group[:2] == contest[:2] and group.select in (contest.select, NO_SELECTION)
        ]
        for contest in groups
    }
    return {group: members for group, members in contests.items() if len(members) > 1}


def _read(row: Row, cell: Cell, folders: Mapping[str, Path]) -> Sample:
    # Which number stands for which run does not matter to a mean over them.
    runs = dict(enumerate(folders[run] for run in cell.runs))
    return read_sample(row.label, cell.column, runs, trained=not row.untrained and row.kind != "rerun")


def _compare(samples: Sequence[Sample], higher: bool, unit: Unit, group: Group, left_out: int) -> Matrix:
    found: dict[tuple[int, int], Comparison] = {}
    for j in range(1, len(samples)):
        against = compare_rows(samples[j], samples[:j], higher, unit)
        found |= {(i, j): against[samples[i].label] for i in range(j)}
    adjusted = holm([comparison.p for comparison in found.values()])
    cells: list[list[Pair | None]] = [[None] * len(samples) for _ in samples]
    for ((i, j), raw), p in zip(found.items(), adjusted, strict=True):
        c = replace(raw, adjusted=p, family=len(found))
        first, _, limits = c.words.partition(" ")
        opposite = " ".join(filter(None, [_OPPOSITE.get(first, first), limits]))
        cells[i][j] = Pair(c.difference, c.low, c.high, p, c.words)
        cells[j][i] = Pair(-c.difference, c.high and -c.high, c.low and -c.low, p, opposite)
    ranks = rank_rows(samples, higher, unit)
    n = next(iter(found.values())).n
    return Matrix(
        metric=samples[0].metric,
        testset=group.testset,
        labels=tuple(sample.label for sample in samples),
        cells=tuple(map(tuple, cells)),
        ranks=_ranks(ranks, samples),
        n=n,
        unit=unit,
        caption=_explain(n, unit, group, len(found), ranks, len(samples), left_out),
    )


def _ranks(ranks: RankTest | None, samples: Sequence[Sample]) -> tuple[float, ...]:
    by_label = dict(zip(ranks.labels, ranks.ranks, strict=True)) if ranks else {}
    return tuple(by_label[sample.label] for sample in samples) if ranks else ()


def _explain(n: int, unit: Unit, group: Group, pairs: int, ranks: RankTest | None, num_rows: int, left_out: int) -> str:
    where = f"{group.testset}, protocol {group.protocol}" + (f", selection {group.select}" if group.select else "")
    text = (
        f"Row minus column on {where}, paired over n = {n} {unit}, seeds averaged first. Coloured where Wilcoxon's "
        f"signed-rank test, after Holm's correction over {pairs} pair{'s' if pairs > 1 else ''}, has p < {ALPHA:g} and "
        f"the {CONFIDENCE:.0%} interval of the bootstrap excludes zero; tinted where the spread over seeds does not "
        "explain it either. "
    )
    if ranks is not None:
        text += f"{ranks.describe()}. "
    return text + (f"These are the {num_rows} best rows; {left_out} more are left out." if left_out else "")

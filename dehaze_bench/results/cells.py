"""The parts of a table: every cell knows where its number comes from and what it may be compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from dehaze_bench.results.comparisons import Comparison
from dehaze_bench.results.rank_tests import RankTest

Kind = Literal["ours", "rerun", "printed"]
Mark = Literal["", "best", "second"]
NO_SELECTION = "none"  # the `select` of a run that chose no weights: a prior, published weights


class Group(NamedTuple):
    """What two numbers must share before they may be compared; printed numbers have no selection rule."""

    testset: str
    protocol: str
    select: str | None


@dataclass(frozen=True)
class Cell:
    """One number of a table, or the reason why there is none.

    `n` and `runs` count and name the runs behind `value` and `std` (mean and sample standard deviation over
    seeds). `missing` says why there is no value, or why fewer seeds than planned stand behind it. `flagged`
    marks a printed number that was not measured as the rows of this table were.
    """

    column: str
    kind: Kind
    value: float | None = None
    std: float | None = None
    n: int = 0
    runs: tuple[str, ...] = ()
    group: Group | None = None
    higher: bool | None = None
    missing: str = ""
    mark: Mark = ""
    flagged: bool = False


@dataclass(frozen=True)
class Row:
    """One line of a table: `done` of the `planned` seeds where it was measured, nothing where it was printed.

    `remark` names the source of a printed row, or says what went wrong with a measured one. Where the table has a
    baseline, `comparison` is that with it, or `incomparable` says why there is none.
    """

    label: str
    kind: Kind
    cells: tuple[Cell, ...]
    group: Group | None = None
    untrained: bool = False
    done: int = 0
    planned: int = 0
    note: int | None = None
    remark: str = ""
    choices: dict[str, str] = field(default_factory=dict)
    comparison: Comparison | None = None
    incomparable: str = ""


@dataclass(frozen=True)
class Table:
    """A finished table, ready for any renderer; `notes` are numbered from 1, as `Row.note` refers to them.

    With a `baseline` the measured rows carry comparisons by the metric `compared`, and `ranks` orders them all where
    there are enough of them.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    footer: tuple[str, ...]
    notes: tuple[str, ...]
    baseline: str | None = None
    compared: str = ""
    ranks: RankTest | None = None

    @property
    def groups(self) -> list[Group]:
        """The comparison groups of the measured rows, in order of appearance."""
        return list(dict.fromkeys(row.group for row in self.rows if row.group and row.kind != "printed"))

    def higher(self, column: str) -> bool | None:
        """Whether more is better in a column; None for costs and for metrics nobody measured."""
        cells = (cell for row in self.rows for cell in row.cells if cell.column == column)
        return next((cell.higher for cell in cells if cell.higher is not None), None)

"""The lines of a profile: one network at one size, what it costs, and what was published for it."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dehaze_bench.profiling.growth import Growth, fit
from dehaze_bench.results.reference import ReferenceRow

COST = ("params", "macs", "macs_paper")
MEASURED = ("latency", "throughput", "log10_throughput", "memory")
COLUMNS = (*COST, *MEASURED)
# Papers print as MACs what we count by their rule; the rest has one name.
PUBLISHED_AS = {"macs": "", "macs_paper": "macs"}
# The last digits that the tables of the field print: where a figure is a multiple of the first, and where not.
UNITS = {"params": (1e6, 1e5), "macs_paper": (1e8, 1e8)}


@dataclass(frozen=True)
class Row:
    """One network at one size: `macs` by our rule, `macs_paper` by that of its paper, whose name is `rule`.

    `seconds` are those of every repeat over `batch` images, `memory` is in bytes. `error` says why something is
    missing, `note` what a reader should know. A published line of a network that is not ours has a label and a size.
    """

    label: str
    model: str = ""
    size: int = 0
    batch: int = 1
    training: bool = False
    device: str = ""
    params: int | None = None
    macs: float | None = None
    macs_paper: float | None = None
    rule: str = ""
    seconds: tuple[float, ...] = ()
    memory: int | None = None
    error: str = ""
    note: str = ""
    published: Mapping[str, float] = field(default_factory=dict)
    source: str = ""

    @property
    def latency(self) -> float | None:
        """The median of the seconds."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def spread(self) -> tuple[float, float] | None:
        """The quartiles of the seconds."""
        if len(self.seconds) < 2:
            return None
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high

    @property
    def throughput(self) -> float | None:
        """Images per second."""
        return self.batch / self.latency if self.latency else None

    @property
    def log10_throughput(self) -> float | None:
        """The same as some figures have it."""
        return math.log10(self.throughput) if self.throughput else None

    def value(self, column: str) -> float | None:
        """Return our number of a column; None where there is none."""
        return getattr(self, column) if column in COLUMNS else None

    def printed(self, column: str) -> float | None:
        """Return the published number that belongs beside a column."""
        return self.published.get(PUBLISHED_AS.get(column, column))

    def differs(self, column: str) -> bool:
        """Whether our count does not round to the published one (parameters and MACs only)."""
        ours, theirs = self.value(column), self.printed(column)
        if ours is None or theirs is None or column not in UNITS:
            return False
        coarse, fine = UNITS[column]
        unit = coarse if theirs % coarse == 0 else fine
        return abs(ours - theirs) > 0.5 * unit * (1 + 1e-9)


def attach(row: Row, reference: ReferenceRow | None) -> Row:
    """Return the row with what was published for it."""
    if reference is None:
        return row
    values = {name: value for name, value in reference.values.items() if name != "size"}
    return replace(row, published=values, source=f"{reference.source} ({reference.provenance})")


def growths(rows: Sequence[Row]) -> dict[tuple[str, bool], dict[str, Growth | None]]:
    """Return the growth of MACs, time and memory of every network, by label and whether it was trained."""
    found: dict[tuple[str, bool], dict[str, Growth | None]] = {}
    for key in dict.fromkeys((row.label, row.training) for row in rows if row.seconds):
        mine = [row for row in rows if (row.label, row.training) == key and row.seconds]
        sides = [row.size for row in mine]
        found[key] = {name: fit(sides, [row.value(name) for row in mine]) for name in ("macs", "latency", "memory")}
    return found


def to_csv(rows: Sequence[Row]) -> str:
    """Write one line per row with everything it knows; published numbers in columns of their own."""
    names = list(dict.fromkeys(name for row in rows for name in row.published))
    head = ["label", "model", "size", "batch", "mode", "device", *COST, "rule", *MEASURED]
    head += ["latency_low", "latency_high", "repeats", *(f"published_{name}" for name in names)]
    head += ["differs", "error", "note", "source"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        line: list[Any] = [row.label, row.model, row.size or "", row.batch, mode(row), row.device]
        line += [row.value(name) for name in COST] + [row.rule] + [row.value(name) for name in MEASURED]
        line += [*(row.spread or (None, None)), len(row.seconds), *(row.published.get(name) for name in names)]
        differing = " ".join(name for name in COST if row.differs(name))
        writer.writerow(["" if cell is None else cell for cell in [*line, differing, row.error, row.note, row.source]])
    return out.getvalue()


def to_data(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as plain data for JSON."""
    return [asdict(row) | {"latency": row.latency, "throughput": row.throughput} for row in rows]


def mode(row: Row) -> str:
    """Return what was done, in a word; empty for a published line."""
    return "" if not row.model else "training" if row.training else "inference"

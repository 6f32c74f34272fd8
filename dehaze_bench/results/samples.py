"""What the runs of a row measured image by image; read only when rows are compared."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.results.files import read_text
from dehaze_bench.results.record import PER_IMAGE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

Unit = Literal["images", "scenes"]
UNITS: tuple[Unit, ...] = ("images", "scenes")
SHOWN = 3


@dataclass(frozen=True)
class Sample:
    """One metric of one row: `values_SN` for S seeds (in the order of `seeds`) and N images, whose names are sorted.

    A row that nobody `trained` (a prior, published weights) is the same for every seed.
    """

    label: str
    metric: str
    seeds: tuple[int, ...]
    names: tuple[str, ...]
    values_SN: Floats
    trained: bool = True

    def blocks(self, unit: Unit) -> Floats:
        """One value per image, or per scene, averaged over seeds first."""
        return _by_unit(self.names, self.values_SN.mean(axis=0, keepdims=True), unit)[0]

    def blocks_by_seed(self, unit: Unit) -> Floats:
        """One value per seed and image, or seed and scene, in one line."""
        return _by_unit(self.names, self.values_SN, unit).ravel()


def read_sample(label: str, metric: str, runs: Mapping[int, Path], trained: bool = True) -> Sample:
    """Read the `per_image.csv` of a row's run directories, given by seed.

    Raises:
        UsageError: no such file or column, a value that is not a number, or seeds with different images.
    """
    import numpy as np

    columns = {seed: _read_column(folder / PER_IMAGE, metric) for seed, folder in sorted(runs.items())}
    first, *others = columns
    for seed in others:
        _check_same(columns[first], columns[seed], f"'{label}' with seed {first}", f"'{label}' with seed {seed}")
    names = sorted(columns[first])
    values = np.array([[column[name] for name in names] for column in columns.values()], dtype=float)
    return Sample(label, metric, tuple(columns), tuple(names), values, trained)


def check_same_images(first: Sample, second: Sample) -> None:
    """Raise `UsageError`, naming images, unless two rows were measured on the same ones."""
    if first.names != second.names:
        _check_same(first.names, second.names, f"'{first.label}'", f"'{second.label}'")


def scene_of(name: str) -> str:
    """The scene that a picture's name begins with: 1400 of 1400_3, as RESIDE and its descendants name them."""
    return name.split("_", 1)[0]


def _check_same(
    first: Sequence[str] | Mapping[str, float], second: Sequence[str] | Mapping[str, float], *who: str
) -> None:
    one, other = set(first), set(second)
    if one == other:
        return
    texts = [
        f"only {name} has {', '.join(sorted(more)[:SHOWN])}" + (f" and {len(more) - SHOWN} more" * (len(more) > SHOWN))
        for name, more in zip(who, (one - other, other - one), strict=True)
        if more
    ]
    raise UsageError(
        f"cannot compare {who[0]} ({len(one)} images) with {who[1]} ({len(other)} images): {'; '.join(texts)}. "
        "Evaluate both on the same test set: dehaze-bench eval run=ID testset=NAME"
    )


def _by_unit(names: Sequence[str], values_SN: Floats, unit: Unit) -> Floats:
    import numpy as np

    if unit == "images":
        return values_SN
    scenes = [scene_of(name) for name in names]
    found, index_N = np.unique(scenes, return_inverse=True)
    return np.stack([values_SN[:, index_N == place].mean(axis=1) for place in range(len(found))], axis=1)


def _read_column(path: Path, metric: str) -> dict[str, float]:
    header, *lines = list(csv.reader(io.StringIO(read_text(path), newline=""))) or [[]]
    if header[:1] != ["name"]:
        raise UsageError(f"{path}: the first column must be 'name', found {header[:1]}")
    if metric not in header[1:]:
        raise UsageError(f"{path}: no column '{metric}' to compare. {nearest(metric, header[1:])}")
    place = header.index(metric)
    found: dict[str, float] = {}
    for number, line in enumerate(lines, start=2):
        try:
            name, value = line[0], float(line[place])
        except (ValueError, IndexError) as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
        if name in found:
            raise UsageError(f"{path}, line {number}: '{name}' stands there twice")
        if math.isnan(value):
            raise UsageError(f"{path}, line {number}: {metric} of '{name}' is not a number and cannot be compared")
        found[name] = value
    if not found:
        raise UsageError(f"{path} has no images")
    return found

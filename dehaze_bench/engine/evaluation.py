"""Evaluation: one row of metrics per test image, and the mean of the rows; values are never pooled."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dehaze_bench.errors import JobError

Restore = Callable[[Tensor], Tensor]


class Pair(Protocol):
    """A test pair: name and images (3, H, W) in [0, 1]; without truth there is nothing to measure."""

    @property
    def name(self) -> str: ...

    @property
    def hazy(self) -> Tensor: ...

    @property
    def clear(self) -> Tensor | None: ...


class TestSet(Protocol):
    """A sequence of test pairs."""

    name: str
    decoder: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pair: ...


class Measure(Protocol):
    """A named way to turn a restored image and its truth into numbers."""

    def prepare(self, hazy_CHW: Tensor, target_CHW: Tensor) -> tuple[Tensor, Tensor]: ...

    def measure(self, restored_CHW: Tensor, target_CHW: Tensor) -> dict[str, float]: ...


@dataclass(frozen=True)
class Evaluated:
    """Per-image rows in the order of the test set, and how long it took."""

    rows: list[tuple[str, dict[str, float]]]
    seconds: float

    def mean(self, metric: str) -> float:
        return statistics.fmean(values[metric] for _, values in self.rows)

    def std(self, metric: str) -> float:
        """Return the sample standard deviation over images (0 for one image)."""
        values = [row[metric] for _, row in self.rows]
        return statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else 0.0

    def extremes(self, metric: str, count: int, higher: bool) -> tuple[list[int], list[int]]:
        """Return the indices of the `count` worst and the `count` best images."""
        order = sorted(range(len(self.rows)), key=lambda i: self.rows[i][1][metric], reverse=not higher)
        return order[:count], order[::-1][:count]


def evaluate(
    restore: Restore,
    testset: TestSet | Sequence[Pair],
    protocol: Measure,
    on_image: Callable[[int, int], None] | None = None,
) -> Evaluated:
    """Restore every image at full resolution and measure it; raises `JobError` naming an image without truth."""
    rows: list[tuple[str, dict[str, float]]] = []
    started = time.perf_counter()
    for index in range(len(testset)):
        pair = testset[index]
        if pair.clear is None:
            raise JobError(f"'{pair.name}' has no clear image: choose a test set with ground truth to measure.")
        hazy, clear = protocol.prepare(pair.hazy, pair.clear)
        restored = restore(hazy)
        if not torch.isfinite(restored).all():
            raise JobError(f"The network gave non-finite values for '{pair.name}' ({tuple(hazy.shape)}).")
        rows.append((pair.name, protocol.measure(restored, clear)))
        if on_image is not None:
            on_image(index + 1, len(testset))
    return Evaluated(rows=rows, seconds=time.perf_counter() - started)

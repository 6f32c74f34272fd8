"""Evaluation: one row of metrics per test image, and the mean of the rows; values are never pooled.

Frames of a video are images of their own, and each video has a row besides, with its temporal error.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from dehaze_bench.engine.clips import (
    Frame,
    Restore,
    change_errors,
    count_frames,
    is_video,
    restore_window,
    windows_of,
)
from dehaze_bench.engine.distributed import World
from dehaze_bench.engine.signals import StopFlag
from dehaze_bench.errors import BenchError, Requeue
from dehaze_bench.results.record import TEMPORAL

__all__ = ["Evaluated", "Measure", "Pair", "Restore", "TestSet", "evaluate"]


class Pair(Protocol):
    """A test pair: name and images (3, H, W) in [0, 1], or clips (T, 3, H, W); `clear` is None without truth."""

    @property
    def name(self) -> str: ...

    @property
    def hazy(self) -> Tensor: ...

    @property
    def clear(self) -> Tensor | None: ...


class TestSet(Protocol):
    """A sequence of test pairs, or of videos, which have `clips()`."""

    name: str
    decoder: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class Measure(Protocol):
    """A named way to turn a restored image and its truth, or the restored image alone (`judge`), into numbers."""

    def prepare(self, hazy_CHW: Tensor, target_CHW: Tensor) -> tuple[Tensor, Tensor]: ...

    def measure(self, restored_CHW: Tensor, target_CHW: Tensor) -> dict[str, float]: ...

    def judge(self, restored_CHW: Tensor) -> dict[str, float]: ...


@dataclass(frozen=True)
class Evaluated:
    """Per-image rows in the order of the test set, and how long it took.

    `places` says of each row which item of the test set it is of, and which frame of the item. `clips` are rows of
    videos: the means over their frames and, where they have two or more with truth, the temporal error.
    """

    rows: list[tuple[str, dict[str, float]]]
    seconds: float
    places: list[tuple[int, int]] = field(default_factory=list)
    clips: list[tuple[str, dict[str, float]]] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """What was measured: without truth nothing that needs it."""
        temporal = [TEMPORAL] if any(TEMPORAL in values for _, values in self.clips) else []
        return [*(self.rows[0][1] if self.rows else ()), *temporal]

    @property
    def means(self) -> dict[str, float]:
        """The mean of each column."""
        return {column: self.mean(column) for column in self.columns}

    def mean(self, metric: str) -> float:
        return statistics.fmean(self._values(metric))

    def std(self, metric: str) -> float:
        """Return the sample standard deviation over images, of the temporal error over videos (0 for one)."""
        values = self._values(metric)
        return statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else 0.0

    def extremes(self, metric: str, count: int, higher: bool) -> tuple[list[int], list[int]]:
        """Return the indices of the `count` worst and the `count` best images."""
        order = sorted(range(len(self.rows)), key=lambda i: self.rows[i][1][metric], reverse=not higher)
        return order[:count], order[::-1][:count]

    def _values(self, metric: str) -> list[float]:
        rows = self.clips if metric == TEMPORAL else self.rows
        return [row[metric] for _, row in rows if metric in row]


def evaluate(
    restore: Restore,
    testset: TestSet | Sequence[Pair],
    protocol: Measure,
    on_image: Callable[[int, int], None] | None = None,
    world: World | None = None,
    stop: StopFlag | None = None,
) -> Evaluated:
    """Restore every image at full resolution and measure it; without truth only what needs none is measured.

    With several processes each takes every so-manieth item, once, and all of them return all rows in order. Raises
    `JobError` naming an image for which the network gives values that are not finite, `Requeue` after a stop signal.
    """
    world = World(torch.device("cpu")) if world is None else world
    mine: list[_Item] = []
    fault: BenchError | None = None
    started = time.perf_counter()
    for index in range(world.rank, len(testset), world.size):
        if stop:
            fault = Requeue(f"Stopped by {stop.describe()} in an evaluation, which begins anew. Start it again.")
            break
        try:
            mine.append(_evaluate_item(restore, testset[index], protocol, index))
        except BenchError as error:  # raised by all processes together, below
            fault = error
            break
        if on_image is not None:
            on_image(index + 1, len(testset))
    told = world.gather((mine, fault))
    for _, other in told:
        if other is not None:
            raise other
    items = sorted((item for share, _ in told for item in share), key=lambda item: item.index)
    return Evaluated(
        rows=[row for item in items for row in item.rows],
        seconds=time.perf_counter() - started,
        places=[(item.index, place) for item in items for place in range(len(item.rows))],
        clips=[item.clip for item in items if item.clip is not None],
    )


@dataclass(frozen=True)
class _Item:
    """The rows of one item of the test set, and that of the video which it is."""

    index: int
    rows: list[tuple[str, dict[str, float]]]
    clip: tuple[str, dict[str, float]] | None


def _evaluate_item(restore: Restore, item: Any, protocol: Measure, index: int) -> _Item:
    rows: list[tuple[str, dict[str, float]]] = []
    changes: list[float] = []
    before: Frame | None = None
    for window in windows_of(item):
        frames = restore_window(restore, window, protocol)
        changes += change_errors(frames, before)
        before = frames[-1]
        rows += [(frame.name, _measure(frame, protocol)) for frame in frames]
    clip = (item.name, _average([values for _, values in rows], changes)) if is_video(item) else None
    return _Item(index, rows, clip)


def restore_one(
    restore: Restore, testset: TestSet | Sequence[Pair], protocol: Measure, index: int, place: int
) -> Frame:
    """Return one frame of one item of the test set once more, restored with the window around it."""
    for window in windows_of(testset[index]):
        if place < count_frames(window):
            return restore_window(restore, window, protocol)[place]
        place -= count_frames(window)
    raise IndexError(f"item {index} of the test set has no such frame")


def _measure(frame: Frame, protocol: Measure) -> dict[str, float]:
    known = {} if frame.clear_CHW is None else protocol.measure(frame.restored_CHW, frame.clear_CHW)
    return known | protocol.judge(frame.restored_CHW)


def _average(rows: Sequence[dict[str, float]], changes: Sequence[float]) -> dict[str, float]:
    """Return the row of a video: means over its frames and its temporal error."""
    means = {column: statistics.fmean(row[column] for row in rows) for column in rows[0]}
    return means | ({TEMPORAL: statistics.fmean(changes)} if changes else {})

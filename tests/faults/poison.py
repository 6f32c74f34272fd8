"""Scenes of which some hold one value that is not a number, as a damaged file or a faulty sensor would give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dehaze_bench.data import DeadLeaves, Sample


class Poisoned(DeadLeaves):
    """Dead leaves; the scenes `bad` have one pixel of NaN."""

    def __init__(self, bad: Sequence[int], scenes: int = 16, canvas: Sequence[int] = (64, 64)) -> None:
        super().__init__(scenes=scenes, canvas=canvas, cache_scenes=scenes)
        self.bad = set(bad)

    def sample(self, index: int, size: int, rng: np.random.Generator) -> Sample:
        found = super().sample(index, size, rng)
        if index in self.bad:
            found.hazy[0, size // 2, size // 2] = np.nan
        return found

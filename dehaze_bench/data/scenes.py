"""Test pairs of synthetic scenes, at any size: the same scenes, sampled more or less finely.

A scene of `DeadLeaves` is described in units of its width, so a larger canvas shows the same objects with more pixels:
what changes between sizes is the resolution alone. That is what a test of resolution shift needs and photographs of
one size cannot give.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dehaze_bench.data.deadleaves import DeadLeaves
from dehaze_bench.data.haze import add_haze, round_to_8bit, transmit
from dehaze_bench.data.pairs import TestPair
from dehaze_bench.errors import UsageError

_HAZE_KEY = 0x7E57


class Scenes:
    """A test set of `count` scenes of `size` (height, width) in pixels under RESIDE-like haze.

    `seed` chooses scenes, haze density and airlight; training sets of dead leaves with another seed share none of
    them. Haze is "indoor", "outdoor" or "mixed" as in `DeadLeaves`, whose ranges apply. Raises UsageError for a size
    under 64 or a count under 1.
    """

    decoder = "none: made in memory"

    def __init__(self, count: int = 8, size: Sequence[int] = (256, 256), seed: int = 1_000_003, haze: str = "mixed"):
        if count < 1 or len(size) != 2 or min(size) < 64:
            raise UsageError(
                f"test scenes need count >= 1 and a size [height, width] of at least 64, not count={count} and "
                f"size={list(size)}: set testset.count and testset.size."
            )
        self.made = DeadLeaves(seed=seed, scenes=count, canvas=size, haze=haze)
        self.name = f"scenes_{size[0]}x{size[1]}"

    def __len__(self) -> int:
        return len(self.made)

    def __getitem__(self, index: int) -> TestPair:
        made = self.made
        scene, outdoor = made.scene(index)
        rng = np.random.default_rng([made.seed, index, _HAZE_KEY])
        beta, airlight = rng.uniform(*made.beta[outdoor]), rng.uniform(*made.airlight[outdoor])
        colour, depth = made.paint(scene, 0, 0, *made.canvas)
        clear = colour.astype(np.float32) / np.float32(255)
        hazy = round_to_8bit(add_haze(clear, transmit(depth, beta / (1.0 if outdoor else scene.far)), airlight))
        name = f"{'street' if outdoor else 'room'}_{index}"
        return TestPair(name, torch.from_numpy(hazy), torch.from_numpy(clear))

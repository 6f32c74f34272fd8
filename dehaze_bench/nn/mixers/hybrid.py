"""Two or more mixers in one block, or in turns: the "integration" of A Survey of Mamba (arXiv 2408.01129, section 4.1).

Shape legend: B batch, L steps, C model channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.mixers.mixer import Mixer

ARRANGEMENTS = ("series", "parallel")


class Hybrid(Mixer):
    """Several mixers along the same route: one after the other, each with a skip and a norm, or summed side by side."""

    def __init__(self, dim: int, mixers: Sequence[Callable[[int], Mixer]], arrangement: str = "series") -> None:
        super().__init__()
        if len(mixers) < 2:
            raise UsageError(f"A hybrid mixer joins at least two mixers, not {len(mixers)}")
        if arrangement not in ARRANGEMENTS:
            raise UsageError(f"Unknown arrangement '{arrangement}' of mixers. {nearest(arrangement, ARRANGEMENTS)}")
        self.width = dim
        self.arrangement = arrangement
        self.mixers = nn.ModuleList(make(dim) for make in mixers)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in mixers[1:]) if arrangement == "series" else None

    def enter(self, x_BLC: Tensor) -> tuple[Tensor, Tensor | None]:
        return x_BLC, None

    def mix(self, s_BLD: Tensor, order_L: Tensor | None = None) -> Tensor:
        first, *others = self.mixers
        y_BLC = first(s_BLD)
        if self.norms is None:
            for mixer in others:
                y_BLC = y_BLC + mixer(s_BLD)
            return y_BLC
        for norm, mixer in zip(self.norms, others, strict=True):
            y_BLC = y_BLC + mixer(norm(s_BLD + y_BLC))
        return y_BLC

    def leave(self, y_BLD: Tensor, gate_BLD: Tensor | None) -> Tensor:
        return y_BLD


class Alternating:
    """Makes another mixer in every block: block i gets mixer i mod n (Jamba's and Samba's way of integration)."""

    def __init__(self, mixers: Sequence[Callable[[int], Mixer]]) -> None:
        if len(mixers) < 2:
            raise UsageError(f"Alternating needs at least two mixers, not {len(mixers)}")
        self.mixers = tuple(mixers)

    def for_block(self, block: int) -> Callable[[int], Mixer]:
        """Return what makes the mixer of block number `block`."""
        return self.mixers[block % len(self.mixers)]

    def __call__(self, dim: int) -> Mixer:
        """Return the first mixer, for a layer on its own."""
        return self.mixers[0](dim)

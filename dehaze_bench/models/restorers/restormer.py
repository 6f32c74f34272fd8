"""Restormer: efficient transformer for high-resolution image restoration.

Zamir, Arora, Khan, Hayat, Khan, Yang, CVPR 2022 (arXiv 2111.09881). Attention runs across channels, so its cost grows
linearly with the pixels.

| size | dim | blocks | refinement | heads | parameters | MACs at 256 x 256 |
|---|---|---|---|---|---|---|
| the published one | 48 | 4, 6, 6, 8 | 4 | 1, 2, 4, 8 | 26,126,644 | 154.88 G |

The published builds use LayerNorm with a bias (deraining, deblurring) or without (denoising), `norm`. Deviation: none;
the dual-pixel input of defocus deblurring is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.four_levels import FourLevels
from dehaze_bench.nn.transposed_attention import TransposedBlock


class Restormer(FourLevels):
    """Four levels of transposed attention; H and W are multiples of 8."""

    output_range = "residual added to the input, not clamped"

    def __init__(
        self,
        dim: int = 48,
        depths: Sequence[int] = (4, 6, 6, 8),
        refinement: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.66,
        bias: bool = False,
        norm: str = "withbias",
    ) -> None:
        check_heads("Restormer", dim, heads)
        count = (heads[0], *heads)  # the refinement has the heads of level 1

        def make_level(level: int, width: int, depth: int) -> nn.Module:
            return nn.Sequential(*(TransposedBlock(width, count[level], expansion, bias, norm) for _ in range(depth)))

        super().__init__(make_level, dim, depths, refinement, bias=bias)


def check_heads(name: str, dim: int, heads: Sequence[int]) -> None:
    """Raise `UsageError` unless there are four numbers of heads that divide the widths."""
    if len(heads) != 4:
        raise UsageError(f"{name} has four levels and heads for each, such as [1, 2, 4, 8], not {list(heads)}")
    for level, count in enumerate(heads):
        if dim * 2**level % count:
            raise UsageError(f"{name} cannot split {dim * 2**level} channels of level {level + 1} into {count} heads")

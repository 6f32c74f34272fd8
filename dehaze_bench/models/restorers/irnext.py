"""IRNeXt: Rethinking Convolutional Network Design for Image Restoration.

Cui, Ren, Yang, Cao, Knoll, ICML 2023.

| size | blocks per level | parameters | MACs at 256 x 256 |
|---|---|---|---|
| the only one | 4 | 5,455,241 | 38.72 G |

Deviation from c-yn/IRNeXt (MIT): images below 64 pixels, which the mirrored border of the published filters refuses,
are mirrored again.
"""

from __future__ import annotations

from torch import nn

from dehaze_bench.nn.deep_pool import POOLS, DeepPool
from dehaze_bench.nn.mimo import ConvBlock, ThreeScales, chain
from dehaze_bench.nn.pooled_filter import ModulatedFilter


class IRNeXt(ThreeScales):
    """Levels of `num_res` plain blocks, the last of which filters at three sizes between its convolutions."""

    multiple = 32

    def __init__(self, num_res: int = 4, base: int = 32) -> None:
        def make_level(level: int, dim: int) -> nn.Module:
            return chain(num_res, lambda last: block(dim, filtered=last))

        super().__init__(make_level, base)


def block(dim: int, filtered: bool) -> ConvBlock:
    """Return a block, with filters between its convolutions or with nothing there."""
    return ConvBlock(dim, deep_pool(dim) if filtered else nn.Identity())


def deep_pool(dim: int) -> DeepPool:
    """Return the layer with a square filter of 3x3 at each size."""
    return DeepPool(dim, [ModulatedFilter(dim) for _ in POOLS])

"""SFNet: Selective Frequency Network for Image Restoration.

Cui, Tao, Bing, Ren, Gao, Cao, Huang, Knoll, ICLR 2023.

| size | blocks per level | parameters | MACs at 256 x 256 |
|---|---|---|---|
| the only one | 16 | 13,271,209 | 121.08 G |

Deviations from c-yn/SFNet (MIT): the published windows of evaluation take their size from the first image that they
ever see and keep it, ours take it from each image; images below 12 pixels, which the mirrored border of the published
filters refuses, are mirrored again. Parameters that no layer reads (`lamb_l`, `lamb_h`) are kept: they are counted.
"""

from __future__ import annotations

from torch import nn

from dehaze_bench.nn.frequency_selection import SelectionBlock
from dehaze_bench.nn.mimo import ThreeScales, chain

# Windows that the published evaluation pools over, in pixels of a crop of 256.
WINDOWS = {"Indoor": 246, "Outdoor": 210}


class SFNet(ThreeScales):
    """Levels of `num_res` selection blocks, the last of which splits frequencies by filters of its own.

    `window` replaces global means in evaluation: 246 for indoor weights, 210 for outdoor ones, None for none, which is
    also how the published code validates while it trains.
    """

    multiple = 8

    def __init__(self, num_res: int = 16, base: int = 32, window: int | None = WINDOWS["Indoor"]) -> None:
        def make_level(level: int, dim: int) -> nn.Module:
            return chain(num_res, lambda last: SelectionBlock(dim, last, window))

        super().__init__(make_level, base)

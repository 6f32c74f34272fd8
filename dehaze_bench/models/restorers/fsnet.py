"""FSNet: Image Restoration via Frequency Selection.

Cui, Ren, Cao, Knoll, IEEE TPAMI 2023.

| size | blocks per level | parameters | MACs at 256 x 256 |
|---|---|---|---|
| the only one | 16 | 13,275,689 | 106.86 G |

SFNet with its largest level folded: half of the blocks there see the map at half its size.

Deviations from c-yn/FSNet (MIT): those of SFNet. The published code for outdoor images pools over windows of 210 in
training too; ours does in evaluation alone. The code for indoor images has no windows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.frequency_selection import SelectionBlock
from dehaze_bench.nn.mimo import ThreeScales


class FSNet(ThreeScales):
    """Levels of `num_res` selection blocks, the largest one folded.

    `window` replaces global means in evaluation: None for indoor weights, 210 for outdoor ones.
    """

    multiple = 8

    def __init__(self, num_res: int = 16, base: int = 32, window: int | None = None) -> None:
        if num_res < 4:
            raise UsageError(f"num_res={num_res} cannot be folded into quarters: use 4 or more, 16 as published.")

        def make_level(level: int, dim: int) -> nn.Module:
            blocks = [SelectionBlock(dim, i == num_res - 1, window) for i in range(num_res)]
            return nn.Sequential(*blocks) if level else Folded(dim, blocks)

        super().__init__(make_level, base)


class Folded(nn.Module):
    """Blocks of which all but the first and the last quarter work at half the size; x is added to the result."""

    def __init__(self, dim: int, blocks: list[SelectionBlock]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks)
        self.down = nn.Conv2d(dim, dim, 2, stride=2, groups=dim)
        self.conv = nn.Conv2d(2 * dim, dim, 1)
        self.quarter = len(blocks) // 4

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self._run(x_BCHW, 0, self.quarter)
        small = self._run(self.down(y_BCHW), self.quarter, len(self.layers) - self.quarter)
        small = F.interpolate(small, size=x_BCHW.shape[2:], mode="bilinear")
        y_BCHW = self.conv(torch.cat((small, y_BCHW), dim=1))
        return self._run(y_BCHW, len(self.layers) - self.quarter, len(self.layers)) + x_BCHW

    def _run(self, x_BCHW: Tensor, first: int, end: int) -> Tensor:
        for layer in self.layers[first:end]:
            x_BCHW = layer(x_BCHW)
        return x_BCHW

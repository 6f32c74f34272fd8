"""FFA-Net: Feature Fusion Attention Network for Single Image Dehazing.

Qin, Wang, Bai, Xie, Jia, AAAI 2020, arXiv 1911.07559.

| size | groups | blocks per group | channels | parameters | MACs at 256 x 256 |
|---|---|---|---|---|---|
| the only one | 3 | 19 | 64 | 4,455,913 | 287.28 G |

The residual image is added to the normalised input, not to the hazy image, and the sum is taken for the clear image in
[0, 1]: so the released code was trained. Deviation: none.
"""

from __future__ import annotations

from torch import Tensor

from dehaze_bench.nn.feature_attention import FeatureGroups, PixelGate
from dehaze_bench.nn.normalisation import Normalisation


class FFANet(FeatureGroups):
    """Three groups of `blocks` blocks with channel and pixel attention on `dim` channels; any height and width."""

    normalisation = Normalisation((0.64, 0.6, 0.58), (0.14, 0.15, 0.152), undone=False)
    output_range = "[0, 1], not clamped"

    def __init__(self, dim: int = 64, blocks: int = 19) -> None:
        super().__init__(dim, blocks, PixelGate)

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        return self.normalisation.undo(self.restore(self.normalisation.apply(hazy_BCHW)))

"""DehazeFormer: window attention with reflected borders beside convolutions, on five stages.

Song, He, Qian, Du, "Vision Transformers for Single Image Dehazing", TIP 2023, arXiv 2204.03883.

| size | dims        | depths             | convolution | parameters | MACs at 256 | SOTS-indoor |
|------|-------------|--------------------|-------------|------------|-------------|-------------|
| T    | 24, 48, 96  | 4, 4, 4, 2, 2      | depthwise   | 687,404    | 6.64 G      | 35.15       |
| S    | 24, 48, 96  | 8, 8, 8, 4, 4      | depthwise   | 1,284,884  | 13.10 G     | 36.82       |
| B    | 24, 48, 96  | 16, 16, 16, 8, 8   | depthwise   | 2,517,612  | 25.73 G     | 37.84       |
| M    | 24, 48, 96  | 12, 12, 12, 6, 6   | full        | 4,635,952  | 48.60 G     | 38.46       |
| D    | 24, 48, 96  | 32, 32, 32, 16, 16 | depthwise   | 4,983,068  | 50.98 G     |             |
| W    | 48, 96, 192 | 16, 16, 16, 8, 8   | depthwise   | 9,686,724  | 94.32 G     |             |
| L    | 48, 96, 192 | 16, 16, 16, 12, 12 | full        | 25,451,652 | 279.62 G    | 40.05       |

Attention shares are 0, 1/2, 1, 0, 0 in T and 1/4, 1/2, 3/4, 0, 0 in all others. The paper's table has slightly smaller
parameter counts (1.283 M for S); those above are of the published code.

Deviation: none in what is computed. An image too small to be reflected is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn as nn

from dehaze_bench.nn.conv_attention import conv_attention_stages, smallest_reflection
from dehaze_bench.nn.fused_levels import FusedLevels, check_stages


class DehazeFormer(FusedLevels):
    """Restorer of images (B, 3, H, W) in [0, 1]; the output is not clamped.

    `dims` are the channels of the three scales, the other lists are per stage, down and up: `attention` the share of
    blocks (the last ones) that attend, `convolutions` what stands beside it, "depthwise" 5x5 or two "full" 3x3.
    """

    def __init__(
        self,
        depths: Sequence[int] = (16, 16, 16, 8, 8),
        dims: Sequence[int] = (24, 48, 96),
        mlp_ratios: Sequence[float] = (2.0, 4.0, 4.0, 2.0, 2.0),
        heads: Sequence[int] = (2, 4, 6, 1, 1),
        attention: Sequence[float] = (0.25, 0.5, 0.75, 0.0, 0.0),
        convolutions: Sequence[str] = ("depthwise",) * 5,
        window: int = 8,
    ) -> None:
        lists = {"depths": depths, "mlp_ratios": mlp_ratios, "heads": heads, "attention": attention}
        check_stages(type(self).__name__, dims, {**lists, "convolutions": convolutions})
        stages = conv_attention_stages(dims, depths, heads, attention, convolutions, window, mlp_ratios, self.make_ffn)
        super().__init__(dims, stages, reach=smallest_reflection(window))

    @staticmethod
    def make_ffn(dim: int, hidden: int) -> nn.Module:
        """Return the feed-forward layer of a block."""
        return nn.Sequential(nn.Conv2d(dim, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, dim, 1))

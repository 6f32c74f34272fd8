"""PromptIR: prompting for all-in-one image restoration.

Potlapalli, Zamir, Khan, Khan, NeurIPS 2023 (arXiv 2306.13090). Restormer, whose decoder mixes in learned prompts: a
weighted sum of five small maps, resized to the features, with weights that the features' mean decides.

| size | dim | blocks | refinement | heads | parameters | MACs at 256 x 256 |
|---|---|---|---|---|---|---|
| the published one | 48 | 4, 6, 6, 8 | 4 | 1, 2, 4, 8 | 35,592,263 | 172.71 G |

The prompts' widths (64, 128, 320) belong to dim 48, the only one here. Six convolutions of the released code are part
of its checkpoints and never used; they are kept in `unused`, so that counts and files agree. Deviation: none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dehaze_bench.models.restorers.restormer import check_heads
from dehaze_bench.nn.four_levels import FourLevels, Upsample
from dehaze_bench.nn.transposed_attention import TransposedBlock

DIM = 48
# Level that a prompt follows (4 is the latent): channels and side of its maps.
PROMPTS = {2: (64, 64), 3: (128, 32), 4: (320, 16)}


class PromptIR(FourLevels):
    """Restormer with prompts after the latent and the decoder's levels 3 and 2; H and W are multiples of 8."""

    output_range = "residual added to the input, not clamped"

    def __init__(
        self,
        depths: Sequence[int] = (4, 6, 6, 8),
        refinement: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.66,
        bias: bool = False,
        num_prompts: int = 5,
    ) -> None:
        check_heads("PromptIR", DIM, heads)
        count = (heads[0], *heads)

        def make_level(level: int, width: int, depth: int) -> nn.Module:
            return nn.Sequential(*(TransposedBlock(width, count[level], expansion, bias) for _ in range(depth)))

        super().__init__(make_level, DIM, depths, refinement, bias=bias)
        # The latent leaves its prompt with the width of level 3.
        self.up4_3 = Upsample(4 * DIM)
        self.reduce_chan_level3 = nn.Conv2d(6 * DIM, 4 * DIM, 1, bias=bias)
        widths = {2: (2 * DIM, 2 * DIM), 3: (4 * DIM, 4 * DIM), 4: (8 * DIM, 4 * DIM)}
        self.prompting = nn.ModuleDict(
            {
                str(level): Prompting(*widths[level], *PROMPTS[level], num_prompts, heads[2], expansion, bias)
                for level in PROMPTS
            }
        )
        self.unused = nn.ModuleDict(
            {
                "chnl_reduce1": nn.Conv2d(64, 64, 1, bias=bias),
                "chnl_reduce2": nn.Conv2d(128, 128, 1, bias=bias),
                "chnl_reduce3": nn.Conv2d(320, 256, 1, bias=bias),
                "reduce_noise_channel_1": nn.Conv2d(DIM + 64, DIM, 1, bias=bias),
                "reduce_noise_channel_2": nn.Conv2d(2 * DIM + 128, 2 * DIM, 1, bias=bias),
                "reduce_noise_channel_3": nn.Conv2d(4 * DIM + 256, 4 * DIM, 1, bias=bias),
            }
        )
        self.unused.requires_grad_(False)

    def inject(self, level: int, x_BCHW: Tensor) -> Tensor:
        """Mix in the prompt that follows a level."""
        return self.prompting[str(level)](x_BCHW)


class Prompting(nn.Module):
    """Join features with their prompt, then one block and a pointwise map to the width that goes on."""

    def __init__(
        self, dim: int, out: int, width: int, side: int, count: int, heads: int, expansion: float, bias: bool
    ) -> None:
        super().__init__()
        self.prompt = Prompt(dim, width, side, count)
        self.block = TransposedBlock(dim + width, heads, expansion, bias)
        self.reduce = nn.Conv2d(dim + width, out, 1, bias=bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.reduce(self.block(torch.cat([x_BCHW, self.prompt(x_BCHW)], 1)))


class Prompt(nn.Module):
    """A weighted sum of learned maps, resized to the features, through a 3x3 convolution: section 3.1.1, equation 2."""

    def __init__(self, dim: int, width: int, side: int, count: int) -> None:
        super().__init__()
        self.prompt_param = nn.Parameter(torch.rand(1, count, width, side, side))
        self.linear_layer = nn.Linear(dim, count)
        self.conv3x3 = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        weights_BN = self.linear_layer(x_BCHW.mean((2, 3))).softmax(1)
        prompt_BCHW = torch.einsum("bn,nchw->bchw", weights_BN, self.prompt_param[0])
        return self.conv3x3(F.interpolate(prompt_BCHW, size=x_BCHW.shape[2:], mode="bilinear"))

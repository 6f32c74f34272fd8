"""Uformer: a general U-shaped transformer for image restoration.

Wang, Cun, Bao, Zhou, Liu, Li, CVPR 2022 (arXiv 2106.03106). Window attention with a depthwise convolution in the
feed-forward layer, and a learned modulator that is added to every window of the decoder.

| size | dim | blocks | window | parameters | MACs at 256 x 256 |
|---|---|---|---|---|---|
| B | 32 | 1 2 8 8, 2, 8 8 2 1 | 8 | 50,880,946 | 86.57 G |

Windows of every second block are shifted by half, but not where one window covers the grid at `image_size`. Deviation:
pictures need not be square.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.drop import DropPath, drop_rates
from dehaze_bench.nn.windows import WindowAttention, attend_in_windows

HEADS = (1, 2, 4, 8, 16, 16, 8, 4, 2)


class Uformer(nn.Module):
    """Four encoder stages, a bottleneck, four decoder stages with joined skips; H and W are multiples of 16 windows."""

    output_range = "residual added to the input, not clamped"

    def __init__(
        self,
        dim: int = 32,
        depths: Sequence[int] = (1, 2, 8, 8, 2, 8, 8, 2, 1),
        window: int = 8,
        heads: Sequence[int] = HEADS,
        mlp_ratio: float = 4.0,
        modulator: bool = True,
        shift: bool = True,
        image_size: int = 256,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if len(depths) != 9 or len(heads) != 9:
            raise UsageError(f"Uformer has nine stages: give nine depths and heads, not {list(depths)}, {list(heads)}")
        self.multiple = 16 * window
        encoder = drop_rates(drop_path, sum(depths[:4]))
        rates = [*encoder, *[drop_path] * depths[4], *encoder[::-1]]  # the decoder mirrors the encoder
        if depths[5:] != depths[3::-1] and drop_path:
            raise UsageError("Uformer's rates of stochastic depth need a decoder as deep as the encoder: drop_path=0.0")
        rates = rates if len(rates) == sum(depths) else [0.0] * sum(depths)
        level = (0, 1, 2, 3, 4, 3, 2, 1, 0)
        self.stages = nn.ModuleList()
        for i, depth in enumerate(depths):
            width = dim * 2 ** level[i] * (2 if i > 4 else 1)
            side = image_size // 2 ** level[i]
            blocks = [
                Block(
                    width,
                    heads[i],
                    min(window, side),
                    window // 2 if shift and k % 2 and side > window else 0,
                    int(width * mlp_ratio),
                    modulator and i > 4,
                    rates[sum(depths[:i]) + k],
                )
                for k in range(depth)
            ]
            self.stages.append(nn.Sequential(*blocks))
        self.input_proj = nn.Sequential(nn.Conv2d(3, dim, 3, padding=1), nn.LeakyReLU())
        self.downs = nn.ModuleList(nn.Conv2d(dim * 2**i, dim * 2 ** (i + 1), 4, 2, 1) for i in range(4))
        widths = [16 * dim, 16 * dim, 8 * dim, 4 * dim]
        self.ups = nn.ModuleList(nn.ConvTranspose2d(widths[i], dim * 2 ** (3 - i), 2, 2) for i in range(4))
        self.output_proj = nn.Conv2d(2 * dim, 3, 3, padding=1)
        self.apply(_initialise)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return tuple(name for name, _ in self.named_parameters() if name.endswith("relative_position_bias_table"))

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        x_BCHW = self.input_proj(hazy_BCHW)
        skips = []
        for stage, down in zip(self.stages[:4], self.downs, strict=True):
            skips.append(_run(stage, x_BCHW))
            x_BCHW = down(skips[-1])
        x_BCHW = _run(self.stages[4], x_BCHW)
        for stage, up in zip(self.stages[5:], self.ups, strict=True):
            x_BCHW = _run(stage, torch.cat([up(x_BCHW), skips.pop()], 1))
        return hazy_BCHW + self.output_proj(x_BCHW)


class Block(nn.Module):
    """LeWin block: window attention, then the locally enhanced feed-forward layer, both pre-norm and residual."""

    def __init__(
        self, dim: int, heads: int, window: int, shift: int, hidden: int, modulator: bool, drop_path: float
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.modulator = nn.Parameter(torch.randn(window * window, dim)) if modulator else None
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = LocallyEnhanced(dim, hidden)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        y_BHWC = attend_in_windows(self._attend, self.norm1(x_BHWC), self.window, self.shift)
        x_BHWC = x_BHWC + self.drop_path(y_BHWC)
        return x_BHWC + self.drop_path(self.mlp(self.norm2(x_BHWC)))

    def _attend(self, x_MWC: Tensor, mask_GWW: Tensor | None) -> Tensor:
        return self.attn(x_MWC if self.modulator is None else x_MWC + self.modulator, mask_GWW)


class LocallyEnhanced(nn.Module):
    """LeFF: linear, GELU, depthwise 3x3, GELU, linear; section 3.2 of the paper."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Sequential(nn.Linear(dim, hidden), nn.GELU())
        self.dwconv = nn.Sequential(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.GELU())
        self.linear2 = nn.Linear(hidden, dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        y_BCHW = self.dwconv(self.linear1(x_BHWC).permute(0, 3, 1, 2))
        return self.linear2(y_BCHW.permute(0, 2, 3, 1))


def _run(stage: nn.Module, x_BCHW: Tensor) -> Tensor:
    return stage(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)

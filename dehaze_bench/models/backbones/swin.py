"""Swin Transformer: windowed attention with shifts, the hierarchical control of the backbone tables.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021, arXiv 2103.14030,
table 1. Tensor names are those of the published code.

| size   | C   | depths      | heads         | parameters | MACs at 224 | top-1 |
|--------|-----|-------------|---------------|------------|-------------|-------|
| Swin-T | 96  | 2, 2, 6, 2  | 3, 6, 12, 24  | 28,288,354 | 4.509 G     | 81.2  |
| Swin-S | 96  | 2, 2, 18, 2 | 3, 6, 12, 24  | 49,606,258 | 8.769 G     | 83.2  |
| Swin-B | 128 | 2, 2, 18, 2 | 4, 8, 16, 32  | 87,768,224 | 15.4 G      | 83.5  |

Deviation: an image of any size is accepted; a grid that is no multiple of the window is padded with zeros, as in the
published detection backbone. At the size built for this changes nothing.

Shape legend: B batch, H and W grid, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.drop import DropPath, drop_rates
from dehaze_bench.nn.ffn import Mlp
from dehaze_bench.nn.initialisation import init_linear
from dehaze_bench.nn.patch import PatchEmbed, PatchMerging
from dehaze_bench.nn.windows import WindowAttention, attend_in_windows


class Swin(nn.Module):
    """Four stages of window attention; every second block shifts its windows by half.

    Where the grid of a stage, at `image_size`, is not larger than the window, the window is the grid. `features` are
    the outputs of the stages before their downsampling, the last one normalised.
    """

    counting = "fvcore"

    def __init__(
        self,
        dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        mlp_ratio: float = 4.0,
        patch: int = 4,
        image_size: int = 224,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        if len(depths) != len(heads) or not depths:
            raise UsageError(f"Swin needs heads for every stage: depths={list(depths)} and heads={list(heads)} differ")
        self.widths = tuple(dim * 2**i for i in range(len(depths)))
        for width, count in zip(self.widths, heads, strict=True):
            if width % count:
                raise UsageError(f"Swin cannot split {width} channels into {count} heads")
        self.strides = tuple(patch * 2**i for i in range(len(depths)))
        self.multiple = patch
        self.patch_embed = PatchEmbed(dim, patch, norm=True)
        rates = iter(drop_rates(drop_path, sum(depths)))
        self.layers = nn.ModuleList()
        for i, width in enumerate(self.widths):
            side = image_size // patch // 2**i
            last = i == len(depths) - 1
            taken = [next(rates) for _ in range(depths[i])]
            self.layers.append(Stage(width, heads[i], min(window, side), mlp_ratio, qkv_bias, taken, last))
        self.norm = nn.LayerNorm(self.widths[-1])
        self.head = nn.Linear(self.widths[-1], num_classes) if num_classes else nn.Identity()
        self.apply(init_linear)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return tuple(name for name, _ in self.named_parameters() if name.endswith("relative_position_bias_table"))

    def features(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return maps (B, C_i, H / s_i, W / s_i), finest first."""
        x_BHWC = self.patch_embed(image_BCHW)
        found = []
        for stage in self.layers:
            x_BHWC, before = stage(x_BHWC)
            found.append(before.permute(0, 3, 1, 2))
        found[-1] = self.norm(x_BHWC).permute(0, 3, 1, 2)
        return found

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.head(self.features(image_BCHW)[-1].mean(dim=(2, 3)))


class Stage(nn.Module):
    """Blocks, then patch merging (not after the last stage); returns the result and what it was before merging."""

    def __init__(
        self, dim: int, heads: int, window: int, mlp_ratio: float, qkv_bias: bool, rates: Sequence[float], last: bool
    ) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.blocks = nn.ModuleList(
            Block(dim, heads, window, window // 2 if i % 2 else 0, hidden, qkv_bias, rate)
            for i, rate in enumerate(rates)
        )
        self.downsample = None if last else PatchMerging(dim)

    def forward(self, x_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        for block in self.blocks:
            x_BHWC = block(x_BHWC)
        return x_BHWC if self.downsample is None else self.downsample(x_BHWC), x_BHWC


class Block(nn.Module):
    """Pre-norm window attention and MLP, both residual; no shift where one window covers the grid."""

    def __init__(
        self, dim: int, heads: int, window: int, shift: int, hidden: int, qkv_bias: bool, drop_path: float
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, window, qkv_bias)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        height, width = x_BHWC.shape[1:3]
        shift = self.shift if min(height, width) > self.window else 0
        y = F.pad(self.norm1(x_BHWC), (0, 0, 0, -width % self.window, 0, -height % self.window))
        y = attend_in_windows(self.attn, y, self.window, shift)
        x_BHWC = x_BHWC + self.drop_path(y[:, :height, :width])
        return x_BHWC + self.drop_path(self.mlp(self.norm2(x_BHWC)))

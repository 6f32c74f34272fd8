"""DeiT: the transformer that the surveys measure vision Mamba against.

Touvron et al., "Training data-efficient image transformers & distillation through attention", ICML 2021, arXiv
2012.12877, table 1. Tensor names are those of the published code.

| size    | D   | heads | parameters | with distillation token | top-1 (distilled) |
|---------|-----|-------|------------|-------------------------|-------------------|
| DeiT-Ti | 192 | 3     | 5,717,416  | 5,910,800               | 72.2 (74.5)       |
| DeiT-S  | 384 | 6     | 22,050,664 | 22,436,432              | 79.9 (81.2)       |
| DeiT-B  | 768 | 12    | 86,567,656 | 87,338,192              | 81.8 (83.4)       |

Deviation: the position table is resized bicubically for other sizes than the one built for, which the published code
leaves to its fine-tuning script.

Shape legend: B batch, L tokens, C channels, H and W grid, N heads, E channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.drop import DropPath, drop_rates
from dehaze_bench.nn.ffn import Mlp
from dehaze_bench.nn.initialisation import init_linear
from dehaze_bench.nn.patch import PatchEmbed
from dehaze_bench.nn.positions import resize_table


class DeiT(nn.Module):
    """Vision transformer with the class token first; `distilled` adds a second token and head.

    The output of a distilled network is the mean of both heads, as published for inference. `fused` uses torch's fused
    attention, which never writes the attention matrix; without it the matrix is written, as in the measurements of the
    Vim paper. `features` is one map at the stride of a patch.
    """

    counting = "fvcore"

    def __init__(
        self,
        dim: int = 192,
        depth: int = 12,
        heads: int = 3,
        mlp_ratio: float = 4.0,
        patch: int = 16,
        image_size: int = 224,
        qkv_bias: bool = True,
        distilled: bool = False,
        drop_path: float = 0.0,
        fused: bool = True,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise UsageError(f"DeiT cannot split dim={dim} into heads={heads}: dim must be a multiple of heads")
        if image_size % patch:
            raise UsageError(f"DeiT with patch={patch} needs image_size as a multiple of it, not {image_size}")
        self.multiple = patch
        self.strides, self.widths = (patch,), (dim,)
        side = image_size // patch
        self.grid = (side, side)
        num_extra = 2 if distilled else 1
        self.patch_embed = PatchEmbed(dim, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, dim)) if distilled else None
        self.pos_embed = nn.Parameter(torch.zeros(1, num_extra + side**2, dim))
        self.blocks = nn.ModuleList(
            Block(dim, heads, int(dim * mlp_ratio), qkv_bias, fused, rate) for rate in drop_rates(drop_path, depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        self.head_dist = nn.Linear(dim, num_classes) if distilled and num_classes else None
        self.num_extra = num_extra
        for table in (self.cls_token, self.dist_token, self.pos_embed):
            if table is not None:
                nn.init.trunc_normal_(table, std=0.02)
        self.apply(init_linear)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("cls_token", "dist_token", "pos_embed")

    def tokens(self, image_BCHW: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return the normalised tokens after the last block, extra ones first, and the grid of the others."""
        x_BHWC = self.patch_embed(image_BCHW)
        grid = (x_BHWC.shape[1], x_BHWC.shape[2])
        table: Tensor = self.pos_embed
        extra = self.num_extra
        if grid != self.grid:
            table = torch.cat([table[:, :extra], resize_table(table[:, extra:], self.grid, grid)], dim=1)
        first = [
            token.expand(x_BHWC.shape[0], -1, -1) for token in (self.cls_token, self.dist_token) if token is not None
        ]
        x_BLC = torch.cat([*first, x_BHWC.flatten(1, 2)], dim=1) + table
        for block in self.blocks:
            x_BLC = block(x_BLC)
        return self.norm(x_BLC), grid

    def features(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return one map (B, C, H / patch, W / patch), normalised."""
        x_BLC, grid = self.tokens(image_BCHW)
        return [x_BLC[:, self.num_extra :].transpose(1, 2).unflatten(2, grid)]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        x_BLC, _ = self.tokens(image_BCHW)
        out = self.head(x_BLC[:, 0])
        if self.num_extra == 2:
            second = x_BLC[:, 1] if self.head_dist is None else self.head_dist(x_BLC[:, 1])
            return (out + second) / 2
        return out


class Attention(nn.Module):
    """Multi-head self-attention over all tokens."""

    def __init__(self, dim: int, heads: int, qkv_bias: bool, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BLC: Tensor) -> Tensor:
        q_BNLE, k_BNLE, v_BNLE = self.qkv(x_BLC).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.fused:
            y_BNLE = F.scaled_dot_product_attention(q_BNLE, k_BNLE, v_BNLE)
        else:
            weights_BNLL = (q_BNLE * q_BNLE.shape[-1] ** -0.5) @ k_BNLE.mT
            y_BNLE = weights_BNLL.softmax(dim=-1) @ v_BNLE
        return self.proj(y_BNLE.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm attention and MLP, both residual."""

    def __init__(self, dim: int, heads: int, hidden: int, qkv_bias: bool, fused: bool, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads, qkv_bias, fused)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, hidden)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BLC: Tensor) -> Tensor:
        x_BLC = x_BLC + self.drop_path(self.attn(self.norm1(x_BLC)))
        return x_BLC + self.drop_path(self.mlp(self.norm2(x_BLC)))

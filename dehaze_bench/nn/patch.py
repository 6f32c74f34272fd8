"""Images to tokens, and tokens to fewer tokens.

Shape legend: B batch, C channels, H and W size in tokens, L = H*W tokens.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError


class PatchEmbed(nn.Module):
    """Convolve patches of an image (B, 3, H, W) into tokens (B, H / stride, W / stride, C).

    `stride` below `patch` makes patches overlap. `corner_pad` fills the right and lower border with zeros so that
    every stride has its patch (mmcv's adaptive "corner" padding); without it H - patch must be a multiple of the stride
    and the rest of the image is refused. `norm` adds a LayerNorm (Swin).
    """

    def __init__(
        self,
        dim: int,
        patch: int = 16,
        stride: int | None = None,
        channels: int = 3,
        bias: bool = True,
        corner_pad: bool = False,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.patch, self.stride, self.corner_pad = patch, patch if stride is None else stride, corner_pad
        self.proj = nn.Conv2d(channels, dim, patch, self.stride, bias=bias)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the token grid of an image of this size."""
        if self.corner_pad:
            return -(-height // self.stride), -(-width // self.stride)
        return (height - self.patch) // self.stride + 1, (width - self.patch) // self.stride + 1

    def forward(self, image_BCHW: Tensor) -> Tensor:
        size = image_BCHW.shape[-2:]
        if self.corner_pad:
            extra = [max(0, (n - 1) // self.stride * self.stride + self.patch - n) for n in size]
            image_BCHW = F.pad(image_BCHW, (0, extra[1], 0, extra[0]))
        elif any(n < self.patch or (n - self.patch) % self.stride for n in size):
            raise UsageError(
                f"An image of {size[0]}x{size[1]} cannot be cut into patches of {self.patch} with stride "
                f"{self.stride}: use sizes of {self.patch} plus a multiple of {self.stride}"
            )
        return self.norm(self.proj(image_BCHW).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Four neighbours side by side, normalised, mapped to `out` channels: half the resolution (B, H, W, C).

    Swin (arXiv 2103.14030, section 3.1) and VMamba's first releases; the order of the four is row offset first, and an
    odd grid is filled with zeros.
    """

    def __init__(self, dim: int, out: int | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim if out is None else out, bias=False)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        height, width = x_BHWC.shape[1:3]
        x = F.pad(x_BHWC, (0, 0, 0, width % 2, 0, height % 2))
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, dim=-1)))

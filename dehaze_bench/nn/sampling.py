"""Pictures read between their pixels.

Shape legend: B batch, C channels, H and W size, T places that are read for each pixel, K taps of a kernel.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


def sample_pixels(x_BCHW: Tensor, shift_B2THW: Tensor, padding: str = "zeros") -> Tensor:
    """Return x at T places for every pixel, each at the pixel plus a shift, bilinear: (B, C, T, H, W).

    `shift_B2THW` holds (rows, columns), in pixels. Beyond the border lie zeros, or with `padding` "border" the nearest
    pixel. Positions are computed in float32 at least, since half precision cannot tell neighbouring pixels of a large
    picture apart.
    """
    height, width = x_BCHW.shape[-2:]
    if x_BCHW.is_meta:  # where torch spells the whole interpolation out, at a tenth of a second per call
        return x_BCHW.unsqueeze(2).expand(-1, -1, shift_B2THW.shape[2], -1, -1)
    kind = torch.promote_types(shift_B2THW.dtype, torch.float32)
    row_H1 = torch.arange(height, dtype=kind, device=x_BCHW.device)[:, None]
    column_W = torch.arange(width, dtype=kind, device=x_BCHW.device)
    y_BTHW, x_BTHW = row_H1 + shift_B2THW[:, 0], column_W + shift_B2THW[:, 1]
    place_BTHW2 = torch.stack([(2 * x_BTHW + 1) / width - 1, (2 * y_BTHW + 1) / height - 1], dim=-1)
    sampled = F.grid_sample(x_BCHW.to(kind), place_BTHW2.flatten(1, 2), padding_mode=padding, align_corners=False)
    return sampled.unflatten(2, (-1, height)).to(x_BCHW.dtype)


class DeformableDepthwise(nn.Module):
    """Depthwise convolution whose taps move: DCN (Dai et al., arXiv 1703.06211) with one group of offsets, no bias.

    `offset_BKHW` holds for every pixel the (rows, columns) that each tap moves by, 2 K channels, tap by tap in raster
    order. What lies outside the picture is zero.
    """

    def __init__(self, dim: int, kernel: int = 3) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = nn.Parameter(torch.empty(dim, 1, kernel, kernel))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x_BCHW: Tensor, offset_BKHW: Tensor) -> Tensor:
        reach = torch.arange(self.kernel, dtype=offset_BKHW.dtype, device=offset_BKHW.device) - self.kernel // 2
        start_KK2 = torch.stack(torch.meshgrid(reach, reach, indexing="ij"), dim=-1)
        shift_BKK2HW = offset_BKHW.unflatten(1, start_KK2.shape) + start_KK2[..., None, None]
        out_BCN = torch.zeros_like(x_BCHW).flatten(2)
        # Row by row of the kernel: all taps side by side would be nine pictures in memory at once.
        for shift_BK2HW, weight_C1K in zip(shift_BKK2HW.unbind(1), self.weight.unbind(2), strict=True):
            sampled_BCKN = sample_pixels(x_BCHW, shift_BK2HW.transpose(1, 2)).flatten(3)
            out_BCN = out_BCN + F.conv2d(sampled_BCKN, weight_C1K.unsqueeze(3), groups=x_BCHW.shape[1]).squeeze(2)
        return out_BCN.view_as(x_BCHW)

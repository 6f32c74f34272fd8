"""OKNet: Omni-Kernel Network for Image Restoration.

Cui, Ren, Knoll, AAAI 2024.

| size | blocks per level | parameters | MACs at 256 x 256 |
|---|---|---|---|
| the only one | 4 | 4,722,857 | 36.32 G |

Deviations from c-yn/OKNet (MIT): the channel attention in the Fourier domain multiplies each spectrum by one number,
which is the same without the transform and done so. The 3x3 convolution that no layer reads is kept: it is counted.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.mimo import ConvBlock, ThreeScales, chain


class OKNet(ThreeScales):
    """Levels of `num_res` plain blocks with an omni-kernel module between encoder and decoder."""

    multiple = 4

    def __init__(self, num_res: int = 4, base: int = 32, kernel: int = 63) -> None:
        def make_level(level: int, dim: int) -> nn.Module:
            return chain(num_res, lambda last: ConvBlock(dim))

        super().__init__(make_level, base, bottleneck=OmniKernel(4 * base, kernel))


class OmniKernel(nn.Module):
    """The omni-kernel module: a large square, two strips, a point, and a global branch, added up."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise UsageError(f"kernel={kernel} has no centre: use an odd number, 63 as published.")
        pad = kernel // 2
        self.in_conv = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.GELU())
        self.dw_13 = nn.Conv2d(dim, dim, (1, kernel), padding=(0, pad), groups=dim)
        self.dw_31 = nn.Conv2d(dim, dim, (kernel, 1), padding=(pad, 0), groups=dim)
        self.dw_33 = nn.Conv2d(dim, dim, kernel, padding=pad, groups=dim)
        self.dw_11 = nn.Conv2d(dim, dim, 1, groups=dim)
        self.fac_conv = nn.Conv2d(dim, dim, 1)
        self.conv = nn.Conv2d(dim, dim, 1)
        self.fgm = FrequencyGate(dim)
        self.out_conv = nn.Conv2d(dim, dim, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.in_conv(x_BCHW)
        # The published code takes the magnitude, since it comes back from a complex transform.
        attended = (self.fac_conv(y_BCHW.mean((2, 3), keepdim=True)) * y_BCHW).abs()
        attended = self.conv(attended.mean((2, 3), keepdim=True)) * attended
        local = self.dw_13(y_BCHW) + self.dw_31(y_BCHW) + self.dw_33(y_BCHW) + self.dw_11(y_BCHW)
        return self.out_conv((x_BCHW + local + self.fgm(attended)).relu())


class FrequencyGate(nn.Module):
    """a |F^-1(W1 x * F(W2 x))| + b x, a spectrum gated by features; a is 0 and b is 1 at first.

    The transform runs in float32 at least.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, 2 * dim, 3, padding=1)  # in no formula, but in the published file and count
        self.dwconv1 = nn.Conv2d(dim, dim, 1)
        self.dwconv2 = nn.Conv2d(dim, dim, 1)
        self.alpha = nn.Parameter(torch.zeros(dim, 1, 1))
        self.beta = nn.Parameter(torch.ones(dim, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        gate_BCHW, value_BCHW = self.dwconv1(x_BCHW), self.dwconv2(x_BCHW)
        precise = torch.promote_types(value_BCHW.dtype, torch.float32)
        gated = torch.fft.ifft2(gate_BCHW * torch.fft.fft2(value_BCHW.to(precise))).abs()
        return gated * self.alpha + x_BCHW * self.beta

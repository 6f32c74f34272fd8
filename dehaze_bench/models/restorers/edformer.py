"""ED-Former: DehazeFormer-T with wavelets between its scales and attention inside of its feed-forward layers.

Chen, He, Wang et al., "ED-Former: Efficient dehazing transformer with Attention-Adaptive Feed-Forward Network", Signal
Processing: Image Communication 148 (2026), 117634.

| size         | parameters | MACs at 256 | SOTS-indoor | SOTS-outdoor | RS-Haze |
|--------------|------------|-------------|-------------|--------------|---------|
| the only one | 865,868    | 7.31 G      | 38.21       | 33.92        | 39.61   |

MACs are those of convolutions and matrix products; 7.36 G is printed, with the filters of the wavelets.

Deviation: none in what is computed. The published code keeps the three detail bands of a Haar transform until the way
up, where they and the new low band are transformed back; since the transform is orthonormal, that is to exchange the
mean of every 2x2 square of the skip, which is what is done here. An image too small to be reflected is refused by name.
"""

from __future__ import annotations

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.dehazeformer import DehazeFormer
from dehaze_bench.nn.fusion import SelectiveKernelFusion
from dehaze_bench.nn.reflected import reflected_conv


class EDFormer(DehazeFormer):
    """Restorer of images (B, 3, H, W) in [0, 1]; the output is not clamped. The arguments are those of DehazeFormer.

    The published network has `depths` (4, 4, 4, 2, 2) and `attention` (0, 1/2, 1, 0, 0).
    """

    def make_down(self, dim: int, out: int) -> nn.Module:
        return HaarDown(dim, out)

    def make_up(self, dim: int, out: int) -> nn.Module:
        return HaarUp(dim, out)

    def make_fusion(self, dim: int) -> nn.Module:
        return SelectiveKernelFusion(dim, project=False)

    @staticmethod
    def make_ffn(dim: int, hidden: int) -> nn.Module:
        return AttentiveFFN(dim, hidden)

    def join(self, level: int, x_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        return self.fusions[level](self.ups[level](x_BCHW, skip_BCHW), skip_BCHW)


class HaarDown(nn.Module):
    """A 3x3 convolution of the low band of an orthonormal Haar transform, at half the size."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.proj = reflected_conv(dim, out, 3)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.proj(low_band(x_BCHW))


class HaarUp(nn.Module):
    """The inverse transform of a low band, made by a 3x3 convolution, and the detail bands of the skip."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.proj = reflected_conv(dim, out, 3)

    def forward(self, x_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        change_BCHW = self.proj(x_BCHW) - low_band(skip_BCHW)
        return skip_BCHW + F.interpolate(change_BCHW / 2, scale_factor=2, mode="nearest")


class AttentiveFFN(nn.Module):
    """out(relu(x + depthwise(x) * gate(mean of x))) for x = relu(in(x)); the gate is squeeze and excitation."""

    REDUCTION = 16

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        if hidden < self.REDUCTION:
            raise UsageError(f"The feed-forward layer needs at least {self.REDUCTION} hidden channels, not {hidden}")
        squeezed = hidden // self.REDUCTION
        self.proj_in = nn.Conv2d(dim, hidden, 1)
        self.gate = nn.Sequential(
            nn.Conv2d(hidden, squeezed, 1, bias=False), nn.ReLU(), nn.Conv2d(squeezed, hidden, 1, bias=False)
        )
        self.dconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.proj_out = nn.Conv2d(hidden, dim, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.proj_in(x_BCHW).relu()
        gate_BC11 = self.gate(x_BCHW.mean((2, 3), keepdim=True)).sigmoid()
        return self.proj_out((x_BCHW + self.dconv(x_BCHW) * gate_BC11).relu())


def low_band(x_BCHW: Tensor) -> Tensor:
    """Return the low band of an orthonormal Haar transform: twice the mean of every 2x2 square."""
    return 2 * F.avg_pool2d(x_BCHW, 2)

"""The block of SFNet and FSNet: features are split into frequencies, which are weighed and put together again.

Shape legend: B batch, C channels, H and W size, h and w what is left of them.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.mimo import ConvAct
from dehaze_bench.nn.pooled_filter import PooledFilter

# The crop of training, of which the window of `LocalMean` is a share.
CROP = 256


class LocalMean(nn.Module):
    """The mean over the map; in evaluation, where there is a `window`, the mean around every pixel.

    Chu et al., test-time local converter (ECCV 2022, arXiv 2112.04491): the window covers window / 256 of height and
    width, and near the border it is the last one inside. What is returned are the means of the windows that lie inside,
    (B, C, h, w), with h = w = 1 without a window; `spread` gives every pixel its own. What follows pixel by pixel is
    cheaper done in between. Raises UsageError for a window below 1.
    """

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        if window is not None and window < 1:
            raise UsageError(f"window={window} covers no pixel: use 1 to 256 (of a crop of 256), or null for the mean.")
        self.window = window

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.window is None or self.training:
            return x_BCHW.mean((2, 3), keepdim=True)
        for axis in (3, 2):
            size = x_BCHW.shape[axis]
            length = min(max(size * self.window // CROP, 1), size)
            sums = F.pad(x_BCHW.cumsum(axis), (1, 0) if axis == 3 else (0, 0, 1, 0))
            inside = size - length + 1
            x_BCHW = (sums.narrow(axis, length, inside) - sums.narrow(axis, 0, inside)) / length
        return x_BCHW

    @staticmethod
    def spread(mean_BChw: Tensor, like_BCHW: Tensor) -> Tensor:
        """Return the mean of every pixel of `like_BCHW`, or one for all of them."""
        (rows, columns), (height, width) = mean_BChw.shape[2:], like_BCHW.shape[2:]
        if rows == columns == 1:
            return mean_BChw
        above, left = (height - rows) // 2, (width - columns) // 2
        margins = left, width - columns - left, above, height - rows - above
        return F.pad(mean_BChw, margins, mode="replicate")


class SelectionBlock(nn.Module):
    """x + conv(select(gelu(conv(x)))), both convolutions 3x3; selection per half of the channels.

    Cui et al., SFNet (ICLR 2023) and FSNet (TPAMI 2023). The first half is weighed against its mean, the
    second against the mean of each quadrant; where `filtered`, both are split by filters of 3x3 and 5x5 before.
    """

    def __init__(self, dim: int, filtered: bool = False, window: int | None = None) -> None:
        super().__init__()
        if dim % 2:
            raise UsageError(f"{dim} channels cannot be halved.")
        self.conv1 = ConvAct(dim, dim, 3, nn.GELU)
        self.dyna = FilteredSplit(dim // 2, 3, window) if filtered else nn.Identity()
        self.dyna_2 = FilteredSplit(dim // 2, 5, window) if filtered else nn.Identity()
        self.global_ap = WeighedMean(dim // 2, window)
        self.localap = WeighedQuadrants(dim // 2, window)
        self.conv2 = ConvAct(dim, dim, 3)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        first, second = self.conv1(x_BCHW).chunk(2, dim=1)
        first, second = self.global_ap(self.dyna(first)), self.localap(self.dyna_2(second))
        return self.conv2(torch.cat((first, second), dim=1)) + x_BCHW


class FilteredSplit(PooledFilter):
    """Split features by a low-pass of their own into low and high, and weigh both by attention."""

    def __init__(self, dim: int, kernel: int, window: int | None = None) -> None:
        super().__init__(dim, (kernel, kernel))
        self.modulate = Modulation(dim, window)
        # Learned by nobody: the published modules hold them, and the published parameter counts include them.
        self.lamb_l = nn.Parameter(torch.zeros(dim))
        self.lamb_h = nn.Parameter(torch.zeros(dim))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.modulate(x_BCHW, super().forward(x_BCHW))


class Modulation(nn.Module):
    """Add the low and the high part of x, each weighed by attention made of the mean of x.

    The softmax runs over all 2 C weights at once, as in the published code, not over the two of each channel.
    """

    def __init__(self, dim: int, window: int | None = None) -> None:
        super().__init__()
        hidden = max(dim // 2, 32)
        self.mean = LocalMean(window)
        self.fc = nn.Conv2d(dim, hidden, 1)
        self.fcs = nn.ModuleList([nn.Conv2d(hidden, dim, 1), nn.Conv2d(hidden, dim, 1)])
        self.out = nn.Conv2d(dim, dim, 1)

    def forward(self, x_BCHW: Tensor, low_BCHW: Tensor) -> Tensor:
        hidden_BChw = self.fc(self.mean(x_BCHW))
        weights_BChw = torch.cat([fc(hidden_BChw) for fc in self.fcs], dim=1).softmax(1)
        high_weight, low_weight = self.mean.spread(weights_BChw, x_BCHW).chunk(2, dim=1)
        return self.out((x_BCHW - low_BCHW) * high_weight + low_BCHW * low_weight)


class WeighedMean(nn.Module):
    """(1 + h) (x - mean) + d mean, with h and d learned per channel, 0 at first."""

    def __init__(self, dim: int, window: int | None = None) -> None:
        super().__init__()
        self.fscale_d = nn.Parameter(torch.zeros(dim))
        self.fscale_h = nn.Parameter(torch.zeros(dim))
        self.mean = LocalMean(window)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mean = self.mean.spread(self.mean(x_BCHW), x_BCHW)
        return (x_BCHW - mean) * (self.fscale_h[:, None, None] + 1) + mean * self.fscale_d[:, None, None]


class WeighedQuadrants(nn.Module):
    """h (x - mean) + l mean in each quadrant, with h and l learned per channel and quadrant, 0 at first."""

    def __init__(self, dim: int, window: int | None = None) -> None:
        super().__init__()
        self.h = nn.Parameter(torch.zeros(4 * dim))
        self.l = nn.Parameter(torch.zeros(4 * dim))
        self.mean = LocalMean(window)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        quadrants = x_BCHW.unflatten(3, (2, -1)).unflatten(2, (2, -1)).transpose(3, 4)
        parts = quadrants.flatten(1, 3)
        mean = self.mean.spread(self.mean(parts), parts)
        parts = (parts - mean) * self.h[:, None, None] + mean * self.l[:, None, None]
        return parts.reshape(quadrants.shape).transpose(3, 4).flatten(4, 5).flatten(2, 3)

"""UVM-Net: a U-Net whose every double convolution first lets Mamba look at a small copy of its features.

Zheng and Wu, "U-shaped Vision Mamba for Single Image Dehazing", arXiv 2402.04139; zzr-idam/UVM-Net.

| preset      | widths                | token grid | parameters    | MACs at 256 x 256     |
|-------------|-----------------------|------------|---------------|-----------------------|
| uvmnet      | 64, 128, 256, 512 x 2 | 64         | 1,003,940,200 | 501.5 G + 10.2 G scan |
| uvmnet_slim | 33, 66, 132, 264 x 2  | 16         | 19,250,073    | 14.0 G + 0.3 G scan   |

The paper prints 19.25 M parameters and 173.5 G MACs, which no setting of the released code has: its second core works
on the transposed tokens, so its width is their number, 64 * 64, and nine of those have 948 M parameters. `uvmnet` is
the released code, number for number, with its two surprises kept: tokens are a plain reshape of the feature map (what
is called a token is a run of pixels of one channel), and the gate is a softmax over the batch, which is 1 everywhere
for one picture and lets pictures of a batch change each other. A warning says so when it is built.

`uvmnet_slim` is not published. It has the paper's number of parameters, and these deviations from the released code:
1. all widths are 33/64 of the released ones;
2. the token grid is 16 x 16, so that the second core has width 256;
3. a token is a place (`layout="positions"`), so that an order over the grid is one over the picture;
4. the gate is a softmax over the tokens of a picture, times their number, so that its mean is 1, as that of the
   released gate is for a single picture (`gate="tokens"`).
With a grid of 16, 33/64 is the width that meets 19.25 M; whether the authors had this or another network in mind is not
known.

The output formula of AOD-Net and the frame for large pictures, both in the README alone, are left out.

Shape legend: B batch, C channels, H and W size, G side of the token grid, L = G * G tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.branched import Branched
from dehaze_bench.nn.ss2d import check_planar
from dehaze_bench.scans import Scan
from dehaze_bench.scans.planar import raster

RASTER = Scan("raster", raster, merge="sum")
GATES = ("batch", "tokens")
LAYOUTS = ("reshape", "positions")
BOTTLENECK = 16  # channels between the two convolutions in front of the cores
_log = logging.getLogger(__name__)


class UVMNet(nn.Module):
    """Restores images in [0, 1] by what the U-Net adds to them.

    `widths` are those of the five scales. `channel_ssm` is the core over the channels. `gate` and `layout` are
    explained on top of this file. `scan` replaces the raster order of the two cores over tokens, with a parameter set
    for each route; the core over channels has one order.
    """

    multiple = 16
    output_range = "residual added to the input, not clamped"

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        token_grid: int = 64,
        channel_ssm: bool = True,
        gate: str = "batch",
        layout: str = "reshape",
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2.0,
        scan: Scan | None = None,
    ) -> None:
        super().__init__()
        for key, value, known in (("gate", gate, GATES), ("layout", layout, LAYOUTS)):
            if value not in known:
                raise UsageError(f"UVM-Net has no {key} '{value}'. {nearest(value, known)}")
        if len(widths) != 5 or min(widths) < 1 or token_grid < 1:
            raise UsageError(
                f"UVM-Net needs five widths and a token_grid of at least 1, not {list(widths)} and {token_grid}"
            )
        walked = RASTER if scan is None else check_planar(scan)

        def stage(number: int, dim: int, mid: int, out: int) -> Stage:
            order = walked.for_block(number)
            block = UVMBlock(dim, token_grid, order, channel_ssm, gate, layout, d_state, d_conv, expand)
            return Stage(block, dim, mid, out)

        skips = list(widths[:-1])
        outs = [*skips[-2::-1], skips[0]]
        belows = [widths[-1], *outs[:-1]]
        joined = [below + skip for below, skip in zip(belows, reversed(skips), strict=True)]
        self.inc = stage(0, 3, widths[0], widths[0])
        self.downs = nn.ModuleList(stage(i, widths[i - 1], widths[i], widths[i]) for i in range(1, 5))
        self.ups = nn.ModuleList(stage(5 + i, joined[i], joined[i] // 2, outs[i]) for i in range(4))
        self.outc = nn.Conv2d(outs[-1], 3, 1)
        if gate == "batch":
            _warn(
                f"UVM-Net is built as it was released: {sum(p.numel() for p in self.parameters()):,} parameters (its "
                "paper prints 19.25 M), and a gate that is a softmax over the batch: 1 everywhere for one picture, and "
                "pictures of one batch change each other. model=uvmnet_slim has neither."
            )
        if layout == "reshape" and scan is not None:
            _warn(
                f"Scan '{scan.name}' orders the tokens of UVM-Net by number: in the released layout they are runs of "
                "pixels of one channel, not places. Set model.layout=positions for an order over the picture."
            )

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        maps = [self.inc(hazy_BCHW)]
        for down in self.downs:
            maps.append(down(F.max_pool2d(maps[-1], 2)))
        x_BCHW = maps.pop()
        for up in self.ups:
            skip_BCHW = maps.pop()
            x_BCHW = F.interpolate(x_BCHW, scale_factor=2, mode="bilinear", align_corners=True)
            x_BCHW = up(torch.cat([skip_BCHW, _pad(x_BCHW, skip_BCHW)], dim=1))
        return self.outc(x_BCHW) + hazy_BCHW


class Stage(nn.Module):
    """x plus what the UVM block sees in it at the token grid, then twice convolution, batch norm and ReLU."""

    def __init__(self, block: UVMBlock, dim: int, mid: int, out: int) -> None:
        super().__init__()
        self.ub = block
        first = (nn.Conv2d(dim, mid, 3, padding=1, bias=False), nn.BatchNorm2d(mid), nn.ReLU())
        self.double_conv = nn.Sequential(
            *first, nn.Conv2d(mid, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        small_BCGG = F.interpolate(x_BCHW, size=self.ub.grid, mode="bilinear", align_corners=True)
        seen_BCHW = F.interpolate(self.ub(small_BCGG), size=x_BCHW.shape[2:], mode="bilinear", align_corners=True)
        return self.double_conv(seen_BCHW + x_BCHW)


class UVMBlock(nn.Module):
    """The paper's Bi-SSM block on (B, C, G, G): convolutions, norm, up to three Mamba cores, a convolution.

    The first core reads tokens, the second (width L) channels, and what they make is multiplied by a gate from the
    third, which reads tokens too.
    """

    def __init__(
        self,
        dim: int,
        side: int,
        scan: Scan,
        channel_ssm: bool,
        gate: str,
        layout: str,
        d_state: int,
        d_conv: int,
        expand: float,
    ) -> None:
        super().__init__()
        self.grid, self.gate, self.layout = (side, side), gate, layout
        self.convb = nn.Sequential(
            nn.Conv2d(dim, BOTTLENECK, 3, padding=1), nn.ReLU(), nn.Conv2d(BOTTLENECK, dim, 3, padding=1)
        )
        self.ln = nn.LayerNorm(dim)
        shape = (d_state, d_conv, expand)
        self.model1 = Branched(dim, scan, *shape)
        self.model2 = Branched(dim, scan, *shape)
        self.model3 = Branched(side * side, RASTER, *shape) if channel_ssm else None
        self.smooth = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x_BCGG: Tensor) -> Tensor:
        x_BCGG = self.convb(x_BCGG) + x_BCGG
        x_BLC = self.ln(self._to_tokens(x_BCGG))
        y_BLC = self.model1(x_BLC, self.grid)
        if self.model3 is not None:
            y_BLC = self.model3(y_BLC.transpose(1, 2), (y_BLC.shape[2],)).transpose(1, 2)
        y_BLC = y_BLC * self._weigh(self.model2(x_BLC, self.grid))
        return self.smooth(self._to_map(y_BLC))

    def _to_tokens(self, x_BCGG: Tensor) -> Tensor:
        if self.layout == "reshape":
            return x_BCGG.reshape(x_BCGG.shape[0], -1, x_BCGG.shape[1])
        return x_BCGG.flatten(2).transpose(1, 2)

    def _to_map(self, y_BLC: Tensor) -> Tensor:
        y_BCL = y_BLC if self.layout == "reshape" else y_BLC.transpose(1, 2)
        return y_BCL.reshape(y_BLC.shape[0], y_BLC.shape[2], *self.grid)

    def _weigh(self, scores_BLC: Tensor) -> Tensor:
        if self.gate == "batch":
            return torch.softmax(scores_BLC, dim=0)
        return torch.softmax(scores_BLC, dim=1) * scores_BLC.shape[1]


def _pad(x_BCHW: Tensor, like_BCHW: Tensor) -> Tensor:
    """Return x with zeros around it, up to the size of a skip that is larger because its size was odd."""
    rows, columns = (there - here for there, here in zip(like_BCHW.shape[2:], x_BCHW.shape[2:], strict=True))
    if not rows and not columns:
        return x_BCHW
    return F.pad(x_BCHW, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


@lru_cache(maxsize=64)
def _warn(message: str) -> None:
    """Log a warning, each once: a run builds its network several times, mostly on the meta device."""
    _log.warning(message)

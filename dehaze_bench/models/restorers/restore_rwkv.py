"""Restore-RWKV: Restormer's skeleton with recurrent bi-WKV attention and token shifts in all directions.

Yang, Li, Zhang, Zhao, Wei, Xu, "Restore-RWKV: Efficient and Effective Medical Image Restoration with RWKV", IEEE JBHI
2026, arXiv 2407.11087. Published for medical pictures of one channel; there is no dehazing recipe and no weights.

| dim | blocks       | refinement | form   | parameters, 3 channels            | MACs at 256 x 256 |
|-----|--------------|------------|--------|-----------------------------------|-------------------|
| 48  | [4, 6, 6, 8] | 4          | train  | 28,373,731; 27,999,331 of them learn | 149.2 G        |
| 48  | [4, 6, 6, 8] | 4          | deploy | 27,849,219                        | 149.2 G           |

The 28.0 M of the literature are those that learn; the MACs are ours, of convolutions and matrix products. The released
CUDA kernel deviates from the formula that the paper prints, as Vision-RWKV's does, in segments of its own; here the
formula is computed. Deviations: the branches of a shift are merged into one kernel in every pass, in training too,
where the released layer merges once on entering evaluation and may go out of date; `scan` replaces rows and columns as
the orders of the recurrence.

Shape legend: B batch, C channels, H and W size, L = H*W tokens, K routes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import count

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.depthwise import convolve_picture
from dehaze_bench.nn.four_levels import FourLevels
from dehaze_bench.nn.routes import whole_orders
from dehaze_bench.ops.wkv import bi_wkv
from dehaze_bench.scans import Scan, planar
from dehaze_bench.scans.grid import Grid

FORMS = ("train", "deploy")


def rows_and_columns(grid: Grid, turns: int = 2) -> np.ndarray:
    """Rows, columns, rows, ...: one route for each of `turns` recurrences (arXiv 2407.11087, section 3)."""
    both = (planar.raster, planar.columns)
    return np.concatenate([both[turn % 2](grid) for turn in range(turns)])


class RestoreRWKV(FourLevels):
    """Blocks of recurrent bi-WKV attention and channel mix on four levels; their residual is added to the input.

    The routes of `scan` (None: rows, then columns) follow each other: what one leaves is the value that the next one
    averages, each with a decay and a bonus of its own, so that there is nothing to merge. `form` "train" has shifts
    with branches, "deploy" what `deploy()` makes of them.
    """

    output_range = "residual added to the input, not clamped"

    def __init__(
        self,
        dim: int = 48,
        depths: Sequence[int] = (4, 6, 6, 8),
        refinement: int = 4,
        hidden_rate: int = 4,
        in_channels: int = 3,
        out_channels: int = 3,
        scan: Scan | None = None,
        form: str = "train",
    ) -> None:
        if form not in FORMS:
            raise UsageError(f"Unknown form '{form}' of Restore-RWKV. {nearest(form, FORMS)}")
        walk, numbers = Scan("rows_and_columns", rows_and_columns) if scan is None else scan, count()

        def make_level(level: int, width: int, depth: int) -> nn.Module:
            scans = [walk.for_block(next(numbers)) for _ in range(depth)]
            return nn.Sequential(*(Block(width, hidden_rate, one, form) for one in scans))

        super().__init__(make_level, dim, depths, refinement, in_channels, out_channels, bias=True)

    def deploy(self) -> RestoreRWKV:
        """Return a copy in the deploy form: the same outputs from fewer parameters; a copy, if it is that already."""
        merged = copy.deepcopy(self)
        for module in merged.modules():
            if isinstance(module, OmniShift):
                module.merge()
        return merged


class Block(nn.Module):
    """Spatial mix and channel mix, normalised before, scaled and residual."""

    def __init__(self, dim: int, hidden_rate: int, scan: Scan, form: str) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.att = SpatialMix(dim, scan, form)
        self.ffn = ChannelMix(dim, hidden_rate, form)
        self.gamma1, self.gamma2 = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.ones(dim))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        x_BHWC = x_BHWC + self.gamma1 * self.att(self.ln1(x_BHWC))
        x_BHWC = x_BHWC + self.gamma2 * self.ffn(self.ln2(x_BHWC))
        return x_BHWC.permute(0, 3, 1, 2)


class SpatialMix(nn.Module):
    """Re-WKV: bi-WKV along one route after the other over the same keys, then the receptance gate."""

    def __init__(self, dim: int, scan: Scan, form: str) -> None:
        super().__init__()
        self.scan = scan
        self.omni_shift = OmniShift(dim, form)
        self.key, self.value, self.receptance, self.output = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.spatial_decay = nn.Parameter(torch.randn(scan.num_routes, dim))
        self.spatial_first = nn.Parameter(torch.randn(scan.num_routes, dim))

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("spatial_decay", "spatial_first")

    def forward(self, x_BHWC: Tensor) -> Tensor:
        grid = (x_BHWC.shape[1], x_BHWC.shape[2])
        x_BLC = self.omni_shift(x_BHWC).flatten(1, 2)
        k_BLC, v_BLC, r_BLC = self.key(x_BLC), self.value(x_BLC), self.receptance(x_BLC)
        decay_KC, first_KC = self.spatial_decay.float(), self.spatial_first.float()
        for k, order_L in enumerate(whole_orders(self.scan, x_BLC, grid, "Restore-RWKV")):
            v_BLC = bi_wkv(decay_KC[k], first_KC[k], k_BLC, v_BLC, order_L)
        return self.output(torch.sigmoid(r_BLC) * v_BLC).unflatten(1, grid)


class ChannelMix(nn.Module):
    """Squared ReLU to `hidden_rate` times the channels and back, behind a receptance gate."""

    def __init__(self, dim: int, hidden_rate: int, form: str) -> None:
        super().__init__()
        self.omni_shift = OmniShift(dim, form)
        self.key = nn.Linear(dim, hidden_rate * dim, bias=False)
        self.receptance = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(hidden_rate * dim, dim, bias=False)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x_BHWC = self.omni_shift(x_BHWC)
        return torch.sigmoid(self.receptance(x_BHWC)) * self.value(F.relu(self.key(x_BHWC)).square())


class OmniShift(nn.Module):
    """Weighted sum of the picture and its depthwise convolutions of 1, 3 and 5, computed as one of 5.

    The published layer holds the merged kernel as a parameter beside its branches: it is counted, learns nothing and is
    never read before `merge`, after which it is all there is.
    """

    def __init__(self, dim: int, form: str = "train") -> None:
        super().__init__()
        self.branched = form == "train"
        self.conv5x5_reparam = _depthwise(dim, 5)
        if self.branched:
            self.conv5x5_reparam.requires_grad_(False)
            self.conv1x1, self.conv3x3, self.conv5x5 = (_depthwise(dim, kernel) for kernel in (1, 3, 5))
            self.alpha = nn.Parameter(torch.randn(4))

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("alpha",) if self.branched else ()

    def kernel(self) -> Tensor:
        """Return the one kernel (C, 1, 5, 5) that stands for all branches."""
        if not self.branched:
            return self.conv5x5_reparam.weight
        one = self.alpha[0] + self.alpha[1] * self.conv1x1.weight
        three = F.pad(self.alpha[2] * self.conv3x3.weight, (1, 1, 1, 1))
        return F.pad(one, (2, 2, 2, 2)) + three + self.alpha[3] * self.conv5x5.weight

    def merge(self) -> None:
        """Keep the one kernel and let go of the branches."""
        if self.branched:
            with torch.no_grad():
                self.conv5x5_reparam.weight.copy_(self.kernel())
            self.conv5x5_reparam.requires_grad_(True)
            del self.conv1x1, self.conv3x3, self.conv5x5, self.alpha
            self.branched = False

    def forward(self, x_BHWC: Tensor) -> Tensor:
        kernel = self.kernel()
        return convolve_picture(lambda x: F.conv2d(x, kernel, padding=2, groups=kernel.shape[0]), x_BHWC)


def _depthwise(dim: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=False)

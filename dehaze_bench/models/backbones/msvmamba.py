"""MSVMamba: one route at full resolution, and one at half resolution that passes three times.

Shi, Dong and Xu, "Multi-Scale VMamba: Hierarchy in Hierarchy Visual State Space Model", NeurIPS 2024, arXiv 2405.14174,
section 4. Release 1 is the paper's; release 3 is the later branch of the published code ("v3" in its names).

| name     | C   | depths      | ratio | gate | parameters | MACs at 224 | top-1 |
|----------|-----|-------------|-------|------|------------|-------------|-------|
| Nano     | 48  | 1, 2, 5, 2  | 2     | yes  | 6,864,136  | 0.878 G     | 77.3  |
| Micro    | 64  | 1, 2, 5, 2  | 2     | yes  | 11,879,272 | 1.525 G     | 79.8  |
| Tiny     | 96  | 1, 2, 9, 2  | 2     | yes  | 33,046,312 | 4.599 G     | 82.8  |
| v3 T     | 96  | 2, 2, 9, 2  | 1     | no   | 32,263,720 | 5.131 G     | 83.0  |
| v3 S     | 96  | 2, 3, 20, 2 | 1     | no   | 50,216,296 | 8.766 G     | 84.1  |
| v3 B     | 128 | 2, 4, 18, 2 | 1     | yes  | 90,591,976 | 16.275 G    | 84.4  |

Deviation: channels-last throughout, where release 3 is channels-first.

Shape legend: B batch, H and W grid, L tokens of the half-resolution grid, C channels, D inner channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.channel_attention import SqueezeExcite
from dehaze_bench.nn.conv_ffn import ConvFFN
from dehaze_bench.nn.depthwise import convolve_picture
from dehaze_bench.nn.ss2d import SS2D, SelectiveRoutes, check_planar, place
from dehaze_bench.nn.vss import Hierarchy, VSSBlock
from dehaze_bench.scans import Scan, Walk
from dehaze_bench.scans.planar import raster
from dehaze_bench.scans.skips import three_passes

RELEASES = (1, 3)
MULTISCALE = Scan("multiscale", (Walk(raster), Walk(three_passes, scale=2)), merge="sum")


class MSVMamba(Hierarchy):
    """Blocks of `MultiScaleSS2D` and a convolutional feed-forward layer.

    Release 3 has the overlapping stem and downsampling of VMamba's later releases, and normalises what its feed-forward
    layers return. `scan=None` is the published one; others may walk over the tokens and over the half-resolution grid.
    """

    counting = "vmamba"

    def __init__(
        self,
        depths: Sequence[int] = (1, 2, 5, 2),
        dims: int | Sequence[int] = 48,
        d_state: int = 1,
        ratio: float = 2.0,
        dt_rank: int | None = None,
        gate: bool = True,
        squeeze: bool = True,
        ffn_ratio: float = 2.0,
        release: int = 1,
        drop_path: float = 0.0,
        num_classes: int = 1000,
        scan: Scan | None = None,
    ) -> None:
        if release not in RELEASES:
            raise UsageError(f"MSVMamba has the releases 1 and 3, not {release}")
        walked = MULTISCALE if scan is None else scan

        def block(stage: int, width: int, number: int, drop: float) -> VSSBlock:
            op = MultiScaleSS2D(width, walked.for_block(number), d_state, ratio, dt_rank, gate, squeeze, release)
            return VSSBlock(width, op, ConvFFN(width, int(width * ffn_ratio)), drop, post_norm=release == 3)

        stem, down = ("patch", "merge") if release == 1 else ("conv", "conv3")
        super().__init__(block, depths, dims, stem, down, drop_path, num_classes)


class MultiScaleSS2D(SS2D):
    """SS2D with a second depthwise convolution, 7x7 of stride 2, whose result the coarse routes of the scan walk over.

    Release 1 normalises both branches on their own, the coarse one step by step before its three visits to a token are
    added, and enlarges it bilinearly; its coarse parameter sets come first. Release 3 enlarges by repetition, adds, and
    normalises the sum; its coarse sets come last. Squeeze and excitation then, and the gate.
    """

    core: SelectiveRoutes

    def __init__(
        self,
        dim: int,
        scan: Scan,
        d_state: int = 1,
        ratio: float = 2.0,
        dt_rank: int | None = None,
        gate: bool = True,
        squeeze: bool = True,
        release: int = 1,
    ) -> None:
        full, coarse = _split(scan)

        def core(width: int, num_routes: int, d_state: int, dt_rank: int) -> SelectiveRoutes:
            return SelectiveRoutes(width, scan.num_routes, d_state, dt_rank)

        super().__init__(dim, full, d_state, ratio, dt_rank, gate, core=core)
        self.coarse, self.release = coarse, release
        self.conv2d_b1 = None
        self.first_full = self.first_coarse = 0
        if coarse is not None:
            self.conv2d_b1 = nn.Conv2d(self.width, self.width, 7, 2, 3, groups=self.width)
            self.first_full, self.first_coarse = (coarse.num_routes, 0) if release == 1 else (0, full.num_routes)
        self.se = SqueezeExcite(self.width) if squeeze else nn.Identity()

    def mix(self, s_BHWD: Tensor) -> Tensor:
        y_BHWD = self.walk(self.act(convolve_picture(self.conv2d, s_BHWD)), self.first_full)
        if self.release == 1:
            y_BHWD = self.out_norm(y_BHWD)
        if self.conv2d_b1 is not None:
            y_BHWD = y_BHWD + self._walk_coarse(self.act(convolve_picture(self.conv2d_b1, s_BHWD)), s_BHWD.shape[1:3])
        if self.release == 3:
            y_BHWD = self.out_norm(y_BHWD)
        return self.se(y_BHWD)

    def _walk_coarse(self, u_BHWD: Tensor, grid: Sequence[int]) -> Tensor:
        """Return the sum of the coarse routes, enlarged to the grid of the tokens."""
        u_BLD = u_BHWD.flatten(1, 2)
        first, outputs = self.first_coarse, []
        for routes in cast(Scan, self.coarse).on((grid[0], grid[1]), u_BLD.device):
            if self.release == 1:
                outputs.append(place(self.out_norm(self.core.steps(u_BLD, routes, first)), routes, "sum"))
            else:
                outputs.append(self.core(u_BLD, routes, "sum", first))
            first += routes.num_routes
        y_BHWD = sum(outputs[1:], outputs[0]).unflatten(1, u_BHWD.shape[1:3])
        y_BDHW, size = y_BHWD.permute(0, 3, 1, 2), tuple(grid)
        if self.release == 1:
            y_BDHW = F.interpolate(y_BDHW, size=size, mode="bilinear", align_corners=False)
        else:
            y_BDHW = F.interpolate(y_BDHW, size=size, mode="nearest")
        return y_BDHW.permute(0, 2, 3, 1)


def _split(scan: Scan) -> tuple[Scan, Scan | None]:
    """Return the part of a scan that walks over the tokens, and the part, if any, over every second one."""
    check_planar(scan, strides=(1, 2))
    full = tuple(walk for walk in scan.walks if set(walk.strides((4, 4))) == {1})
    rest = tuple(walk for walk in scan.walks if walk not in full)
    coarse = Scan(scan.name, rest) if rest else None
    if not full or (coarse is not None and not coarse.is_static):
        raise UsageError(
            f"Scan '{scan.name}' cannot be taken by MSVMamba: it needs a walk over all tokens, and its walks over the "
            "half-resolution grid must not depend on the picture; scan=multiscale is the published one"
        )
    return Scan(scan.name, full, scan.merge), coarse

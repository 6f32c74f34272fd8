"""VmambaIR: Restormer's skeleton with selective scans over the plane and over the channels.

Shi, Xia, Jin, Wang, Zhao, Xia, Xiao, Yang, "VmambaIR: Visual State Space Model for Image Restoration", IEEE TCSVT 2025,
arXiv 2403.11423. Published for deraining and super-resolution; there is no dehazing recipe.

| build                  | dim | blocks; refinement | variant  | parameters | MACs at 256 + scan |
|------------------------|-----|--------------------|----------|------------|--------------------|
| deraining, as released | 48  | 3, 5, 7, 9; 2      | mamber32 | 28,709,875 | 121.2 G + 41.3 G   |
| defaults of the code   | 48  | 6, 6, 7, 8; 2      | mamber32 | 27,693,156 | 154.6 G + 59.3 G   |
| defaults of the code   | 48  | 6, 6, 7, 8; 2      | mamber33 | 27,680,964 | 154.6 G + 59.3 G   |

The scan counts 9 L D N and, as their counter does, L D for the skip.

The variants differ in the scan over channels: "mamber32" gives every channel four features and adds what comes out,
"mamber33" gives it two and scales by it. Deviations: `scan` replaces the planar scan alone; of a scan with routes over
channels (omni) those over the plane are taken. The two-picture ("dual pixel") form is left out.

Shape legend: B batch, C channels, H and W size, D inner channels, F features of a channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import NamedTuple

import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.four_levels import FourLevels
from dehaze_bench.nn.gated_ffn import GatedDepthwiseFFN
from dehaze_bench.nn.prenorm import PreNormBlock
from dehaze_bench.nn.ss2d import SS2D, SelectiveRoutes
from dehaze_bench.scans import Scan, planar

CROSS = Scan("cross", planar.cross)
CHANNELS = Scan("channels", planar.bidirectional)
CHANNEL_RANK = 6


class Variant(NamedTuple):
    """How the scan over channels is built: features of a channel, and whether its result scales or is added."""

    features: int
    scales: bool


VARIANTS = {"mamber32": Variant(4, scales=False), "mamber33": Variant(2, scales=True)}


class VmambaIR(FourLevels):
    """Blocks of omni selective scan and gated feed-forward on four levels; their residual is added to the input.

    `depths` are the blocks of the levels, `refinement` those after the decoder. `scan` (None: the cross-scan) is walked
    over the plane, with a parameter set for each route; the scan over channels stays as it is.
    """

    output_range = "residual added to the input, not clamped"

    def __init__(
        self,
        dim: int = 48,
        depths: Sequence[int] = (6, 6, 7, 8),
        refinement: int = 2,
        variant: str = "mamber32",
        d_state: int = 16,
        ratio: float = 1.0,
        ffn_expansion: float = 2.66,
        norm: str = "withbias",
        bias: bool = False,
        channels: int = 3,
        scan: Scan | None = None,
    ) -> None:
        walked, numbers = over_plane(CROSS if scan is None else scan), count()

        def block(width: int) -> PreNormBlock:
            attn = OmniScan(width, walked.for_block(next(numbers)), variant, d_state, ratio)
            return PreNormBlock(width, attn, GatedDepthwiseFFN(width, ffn_expansion, bias), norm)

        def make_level(level: int, width: int, depth: int) -> nn.Module:
            return nn.Sequential(*(block(width) for _ in range(depth)))

        super().__init__(make_level, dim, depths, refinement, channels, channels, bias)


class OmniScan(SS2D):
    """Routes over the plane, the gate, then a scan over the channels: (B, H, W, C) to the same shape (figure 3)."""

    def __init__(self, dim: int, scan: Scan, variant: str = "mamber32", d_state: int = 16, ratio: float = 1.0) -> None:
        if variant not in VARIANTS:
            raise UsageError(f"Unknown variant '{variant}' of VmambaIR. {nearest(variant, VARIANTS)}")
        super().__init__(dim, scan, d_state, ratio, bias=True)
        self.channels = ChannelRoutes(self.width, VARIANTS[variant].features)
        self.scales = VARIANTS[variant].scales

    def forward(self, x_BHWC: Tensor) -> Tensor:
        s_BHWD, gate_BHWD = self.in_proj(x_BHWC).chunk(2, dim=-1)
        y_BHWD = self.mix(s_BHWD) * self.act(gate_BHWD)
        found_B11D = self.channels(y_BHWD)
        return self.out_proj(y_BHWD + (y_BHWD * found_B11D if self.scales else found_B11D))


class ChannelRoutes(nn.Module):
    """The means of the channels as a sequence, scanned there and back: (B, H, W, D) to (B, 1, 1, D) (section 3.3).

    The bias of the last map is published and without effect: the norm over channels takes it off.
    """

    def __init__(self, width: int, features: int, d_state: int = 16) -> None:
        super().__init__()
        self.spread, self.join = nn.Linear(1, features), nn.Linear(features, 1)
        self.core = SelectiveRoutes(features, CHANNELS.num_routes, d_state, CHANNEL_RANK)
        self.norm = nn.LayerNorm(width)
        for parameter in (self.core.A_logs, self.core.dt_projs_weight, self.core.dt_projs_bias):
            nn.init.normal_(parameter)  # as published: not the values that selective scans start from elsewhere

    def forward(self, y_BHWD: Tensor) -> Tensor:
        u_BDF = self.spread(y_BHWD.mean((1, 2))[..., None])
        (routes,) = CHANNELS.on((u_BDF.shape[1],), u_BDF.device)
        found_BD = self.join(self.core(u_BDF, routes))[..., 0]
        return self.norm(found_BD)[:, None, None]


def over_plane(scan: Scan) -> Scan:
    """Return the scan without its walks over channels."""
    planes = tuple(walk for walk in scan.walks if walk.axis == "space")
    return scan if len(planes) == len(scan.walks) else replace(scan, order=planes)

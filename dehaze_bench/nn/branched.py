"""One sequence layer with a branch for every route of a scan.

The mixer of Vim (Zhu et al., arXiv 2401.09417, algorithm 1) and of its descendants: VideoMamba sums its two branches
(arXiv 2403.06977), Vivim takes the mean of three (arXiv 2401.14168), SegMamba their sum (arXiv 2401.13560),
LocalMamba passes four through channel attention (arXiv 2403.09338, section 3.2), ZigMa and Mamba-ND have one that
changes from layer to layer. All of that is the scan: its routes, and how it merges them.

Shape legend: B batch, L tokens, K routes, S steps of a route, C model channels, D inner channels, E = K * D, N
states, R rank of the step size, P = R + 2N projected channels.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.depthwise import convolve
from dehaze_bench.nn.merge import Merge
from dehaze_bench.nn.mixers.mamba import Mamba
from dehaze_bench.nn.mixers.mixer import Mixer
from dehaze_bench.nn.scanned import count_visits, run_routes
from dehaze_bench.nn.step_size import draw_step_bias
from dehaze_bench.nn.tracks import check_walks, lay_tracks
from dehaze_bench.ops.selective_scan import selective_scan, selective_scan_routes
from dehaze_bench.scans import Grid, Scan

# Rules that a gate, which is the same for all routes, passes through: it is applied once, to what they make.
LINEAR_MERGES = ("sum", "mean", "scatter")


class Branched(nn.Module):
    """Map in, a branch along each route, gate, merge, map out: (B, L, C) over a grid to the same shape.

    A branch is a causal convolution along its route and a selective scan, with parameters of its own; those of all
    branches lie side by side, so that one call serves them all. `class_token` says where the tokens of the grid have a
    class token among them ("first", "middle", "none"), `mirrored` where it is in routes that run backwards (see
    `lay_tracks`). `dt_rank=None` is ceil(dim / 16). Raises `UsageError` for a scan over coarser grids or channels.

    The step size starts as in Mamba on the first branch and as any linear map on the others, as published.
    """

    def __init__(
        self,
        dim: int,
        scan: Scan,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2.0,
        dt_rank: int | None = None,
        conv_bias: bool = True,
        bias: bool = False,
        class_token: str = "none",
        mirrored: bool = True,
    ) -> None:
        super().__init__()
        width = int(expand * dim)
        if d_state < 1 or d_conv < 1 or width < 1:
            raise UsageError(
                f"A branched layer needs d_state >= 1, d_conv >= 1 and expand * dim >= 1, not d_state={d_state}, "
                f"d_conv={d_conv}, expand={expand} for {dim} channels"
            )
        self.scan = check_walks(scan, "this network")
        self.class_token, self.mirrored = class_token, mirrored
        self.d_state, self.dt_rank = d_state, math.ceil(dim / 16) if dt_rank is None else dt_rank
        num = self.num_routes = scan.num_routes
        self.in_proj = nn.Linear(dim, 2 * width, bias=bias)
        self.conv1d = nn.Conv1d(
            num * width, num * width, d_conv, padding=d_conv - 1, groups=num * width, bias=conv_bias
        )
        self.x_proj = nn.Parameter(torch.empty(num, self.dt_rank + 2 * d_state, width))
        self.dt_proj = nn.Parameter(torch.empty(num, width, self.dt_rank))
        self.dt_bias = nn.Parameter(torch.empty(num, width))
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, d_state + 1)).repeat(num, width, 1))
        self.D = nn.Parameter(torch.ones(num, width))
        self.merge = Merge(scan.merge, num, width)
        self.out_proj = nn.Linear(width, dim, bias=bias)
        nn.init.uniform_(self.x_proj, -(width**-0.5), width**-0.5)
        bound = self.dt_rank**-0.5
        nn.init.uniform_(self.dt_proj, -bound, bound)
        nn.init.uniform_(self.dt_bias, -bound, bound)
        with torch.no_grad():
            self.dt_bias[0] = draw_step_bias(width)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("A_log", "D", "dt_bias")

    def forward(self, x_BLC: Tensor, grid: Grid) -> Tensor:
        x_BLD, z_BLD = self.in_proj(x_BLC).chunk(2, dim=-1)
        tracks = lay_tracks(self.scan, x_BLD, grid, self.class_token, self.mirrored)
        y_BKLD = tracks.scatter(self.walk(tracks.gather(x_BLD)))
        return self.out_proj(_gate_and_merge(self.merge, y_BKLD, z_BLD, tracks.visits_T))

    def walk(self, s_BSE: Tensor) -> Tensor:
        """Convolve and scan along the routes, which are side by side, (B, S, E)."""
        u_BSE = F.silu(convolve(self.conv1d, s_BSE))
        parts_BSKP = torch.einsum("bskd,kpd->bskp", u_BSE.unflatten(2, (self.num_routes, -1)), self.x_proj)
        dt_BSKR, B_BSKN, C_BSKN = parts_BSKP.split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        delta_BSKD = torch.einsum("bskr,kdr->bskd", dt_BSKR, self.dt_proj)
        y_BSE = selective_scan(  # routes are groups of channels
            u_BSE,
            delta_BSKD.flatten(2),
            -torch.exp(self.A_log.float()).flatten(0, 1),
            B_BSKN,
            C_BSKN,
            D_D=self.D.float().flatten(),
            delta_bias_D=self.dt_bias.float().flatten(),
            delta_softplus=True,
        )
        return cast(Tensor, y_BSE)

    def draw_linear(self) -> None:
        """Start the maps of the branches as `init_linear` starts others: weights cut at 2, std 0.02, biases 0."""
        for weight in (self.x_proj, self.dt_proj):
            nn.init.trunc_normal_(weight, std=0.02)
        nn.init.zeros_(self.dt_bias)


class SharedBranches(nn.Module):
    """Branches that share everything but the state matrix (Vim's first version).

    The convolution runs along the tokens as they come, once; only the recurrence follows the routes, and it reads
    tokens where they are, so nothing is copied in visiting order. Raises `UsageError` for an order found by picture.
    """

    def __init__(
        self,
        dim: int,
        scan: Scan,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2.0,
        class_token: str = "none",
        mirrored: bool = True,
    ) -> None:
        super().__init__()
        self.scan = check_walks(scan, "this network")
        if not scan.is_static:
            raise UsageError(
                f"Scan '{scan.name}' finds its order by picture, which shared branches cannot: use mixer: v2"
            )
        self.class_token, self.mirrored = class_token, mirrored
        self.mixer = Mamba(dim, d_state, d_conv, expand)
        self.A_log = nn.Parameter(self.mixer.A_log.detach().repeat(scan.num_routes - 1, 1, 1))
        self.merge = Merge(scan.merge, scan.num_routes, self.mixer.width)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("A_log",)

    def forward(self, x_BLC: Tensor, grid: Grid) -> Tensor:
        s_BLD, z_BLD = self.mixer.in_proj(x_BLC).chunk(2, dim=-1)
        tracks = lay_tracks(self.scan, s_BLD, grid, self.class_token, self.mirrored)
        u_BLD, *driven = self.mixer.drive(s_BLD)
        num = tracks.num_routes
        delta_BLKD, B_BLKN, C_BLKN = (part[:, :, None].expand(-1, -1, num, -1) for part in driven)
        y_BLKD = selective_scan_routes(
            u_BLD,
            delta_BLKD,
            -torch.exp(torch.cat([self.mixer.A_log[None], self.A_log]).float()),
            B_BLKN,
            C_BLKN,
            D_KD=self.mixer.D.float().expand(num, -1),
            delta_bias_KD=self.mixer.dt_proj.bias.float().expand(num, -1),
            delta_softplus=True,
            index_KS=tracks.routes.index_KL,
            merge="none",
        )
        y_BKLD = cast(Tensor, y_BLKD).transpose(1, 2)
        return self.mixer.out_proj(_gate_and_merge(self.merge, y_BKLD, z_BLD, tracks.visits_T))


def _gate_and_merge(merge: Merge, y_BKLD: Tensor, z_BLD: Tensor, visits_T: Tensor | None) -> Tensor:
    gate_BLD = F.silu(z_BLD)
    if merge.rule in LINEAR_MERGES:
        return merge(y_BKLD, visits_T) * gate_BLD
    return merge(y_BKLD * gate_BLD[:, None], visits_T)


def walk_shared(mixer: Mixer, x_BLC: Tensor, scan: Scan, grid: Grid) -> tuple[Tensor, Tensor | None]:
    """Run one mixer along every route: return all outputs, (B, K, L, C), and how many routes visit each token.

    In contrast to `ScannedLayer` every route is mapped back to the model's channels, before anything is merged
    (RSMamba, nnMamba).
    """
    s_BLD, z_BLD = mixer.enter(x_BLC)
    found = scan.through(x_BLC, grid)
    y_BKLD = torch.cat([run_routes(mixer, s_BLD, routes) for routes in found], dim=1)
    return mixer.leave(y_BKLD, None if z_BLD is None else z_BLD[:, None]), count_visits(found)

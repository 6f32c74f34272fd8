"""SS2D: a selective state space over the routes of a scan, with a convolution before and a gate after.

VMamba (Liu et al., arXiv 2401.10166, section 4.2). LocalMamba, EfficientVMamba, MSVMamba and PlainMamba have the same
layer with another scan, another way to merge, or another core; the layer is `SS2D`, a core is what runs along routes.
Tensor names follow the published codes, with what belongs to the core under `core.`.

Shape legend: B batch, H and W grid, L tokens, K routes, S steps of a route, C model channels, D inner channels, N
states, R rank of the step size, P = R + 2N projected channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.depthwise import convolve_picture
from dehaze_bench.nn.merge import Merge
from dehaze_bench.nn.scanned import count_visits
from dehaze_bench.nn.step_size import draw_step_bias
from dehaze_bench.ops.selective_scan import selective_scan, selective_scan_routes
from dehaze_bench.scans import Routes, Scan

Activation = Callable[[Tensor], Tensor]
# core(width, num_routes, d_state, dt_rank)
MakeCore = Callable[[int, int, int, int], nn.Module]


class SS2D(nn.Module):
    """Map in, depthwise convolution, routes, merge, norm, gate, map out: (B, H, W, C) to the same shape.

    `gate=False` leaves the gate out (VMamba's "noz" releases), `norm=False` the norm of the merged routes (PlainMamba).
    `dt_rank=None` is ceil(dim / 16). `core` makes the recurrence; its parameters follow `scan.num_routes` unless it
    shares one set. Raises `UsageError` for a scan over volumes, coarser grids or channels.
    """

    def __init__(
        self,
        dim: int,
        scan: Scan,
        d_state: int = 16,
        ratio: float = 2.0,
        dt_rank: int | None = None,
        gate: bool = True,
        conv: int = 3,
        conv_bias: bool = True,
        bias: bool = False,
        norm: bool = True,
        act: Activation = F.silu,
        core: MakeCore | None = None,
    ) -> None:
        super().__init__()
        width = int(ratio * dim)
        if d_state < 1 or width < 1 or conv % 2 == 0:
            raise UsageError(
                f"SS2D needs d_state >= 1, ratio * dim >= 1 and an odd convolution, not d_state={d_state}, "
                f"ratio={ratio} for {dim} channels, conv={conv}"
            )
        self.scan, self.act, self.width = check_planar(scan), act, width
        rank = math.ceil(dim / 16) if dt_rank is None else dt_rank
        self.in_proj = nn.Linear(dim, 2 * width if gate else width, bias=bias)
        self.conv2d = nn.Conv2d(width, width, conv, padding=conv // 2, groups=width, bias=conv_bias)
        self.core = (core or SelectiveRoutes)(width, scan.num_routes, d_state, rank)
        self.merge: nn.Module | None = None  # the core itself adds routes up
        if scan.merge not in ("sum", "scatter"):
            self.merge = Merge(scan.merge, scan.num_routes, width)
        self.out_norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.out_proj = nn.Linear(width, dim, bias=bias)
        self.gated = gate

    def forward(self, x_BHWC: Tensor) -> Tensor:
        s_BHWD = self.in_proj(x_BHWC)
        gate_BHWD = None
        if self.gated:
            s_BHWD, gate_BHWD = s_BHWD.chunk(2, dim=-1)
        y_BHWD = self.mix(s_BHWD)
        if gate_BHWD is not None:
            y_BHWD = y_BHWD * self.act(gate_BHWD)
        return self.out_proj(y_BHWD)

    def mix(self, s_BHWD: Tensor) -> Tensor:
        """Convolve, walk, merge, normalise."""
        u_BHWD = self.act(convolve_picture(self.conv2d, s_BHWD))
        return self.out_norm(self.walk(u_BHWD))

    def walk(self, u_BHWD: Tensor, first: int = 0) -> Tensor:
        """Return the merged routes of `self.scan`; `first` is the number of the first parameter set."""
        grid = (u_BHWD.shape[1], u_BHWD.shape[2])
        u_BLD = u_BHWD.flatten(1, 2)
        found = self.scan.through(u_BLD, grid)
        outputs = []
        for routes in found:
            outputs.append(self.core(u_BLD, routes, self.scan.merge if self.merge is None else "none", first))
            first += routes.num_routes
        if self.merge is None:
            y_BLD = cast(Tensor, sum(outputs[1:], outputs[0]))
        else:
            y_BLKD = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
            y_BLD = self.merge(y_BLKD.transpose(1, 2), count_visits(found))
        return y_BLD.unflatten(1, grid)


class SelectiveRoutes(nn.Module):
    """Selective scans (S6) along routes, a parameter set for each: step size, B, C from the tokens, A and D learned.

    The published shapes: sets side by side in `x_proj_weight` (K, P, D), `dt_projs_weight` (K, D, R), `dt_projs_bias`
    (K, D), `A_logs` (K * D, N) and `Ds` (K * D). A, D and the bias are used in float32.
    """

    def __init__(self, width: int, num_routes: int, d_state: int, dt_rank: int) -> None:
        super().__init__()
        self.width, self.d_state, self.dt_rank = width, d_state, dt_rank
        self.x_proj_weight = nn.Parameter(torch.empty(num_routes, dt_rank + 2 * d_state, width))
        self.dt_projs_weight = nn.Parameter(torch.empty(num_routes, width, dt_rank))
        self.dt_projs_bias = nn.Parameter(draw_step_bias(num_routes, width))
        self.A_logs = nn.Parameter(torch.log(torch.arange(1.0, d_state + 1)).repeat(num_routes * width, 1))
        self.Ds = nn.Parameter(torch.ones(num_routes * width))
        nn.init.uniform_(self.x_proj_weight, -(width**-0.5), width**-0.5)
        nn.init.uniform_(self.dt_projs_weight, -(dt_rank**-0.5), dt_rank**-0.5)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("A_logs", "Ds")

    def forward(self, u_BLD: Tensor, routes: Routes, merge: str = "sum", first: int = 0) -> Tensor:
        """Return the sum of the routes at the tokens, (B, L, D), or with `merge` "none" each of them, (B, L, K, D).

        Tokens are projected once for all routes and read through the index, so no copy in visiting order is made. Two
        kinds of routes are gathered first instead: those that share the tokens out ("scatter"), where projecting every
        token for every route would be wasted, and those of an order per picture.
        """
        if merge == "scatter" or routes.index_KL.ndim == 3:
            return place(self.steps(u_BLD, routes, first), routes, merge)
        sets = slice(first, first + routes.num_routes)
        parts_BLKP = F.linear(u_BLD, self.x_proj_weight[sets].flatten(0, 1)).unflatten(2, (routes.num_routes, -1))
        dt_BLKR, B_BLKN, C_BLKN = parts_BLKP.split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        A_KDN, D_KD, bias_KD = self._constants(sets)
        y = selective_scan_routes(
            u_BLD,
            torch.einsum("blkr,kdr->blkd", dt_BLKR, self.dt_projs_weight[sets]),
            A_KDN,
            B_BLKN.unsqueeze(3),
            C_BLKN.unsqueeze(3),
            D_KD=D_KD,
            delta_bias_KD=bias_KD,
            delta_softplus=True,
            index_KS=routes.index_KL,
            merge="none" if merge == "none" else "sum",
        )
        return cast(Tensor, y)

    def steps(self, u_BLD: Tensor, routes: Routes, first: int = 0, prompt_BSN: Tensor | None = None) -> Tensor:
        """Return what every route makes at each of its steps, in visiting order, (B, K, S, D).

        `prompt_BSN` is added to C at each step of every route.
        """
        return self.run(routes.gather(u_BLD), first, prompt_BSN)

    def run(self, u_BKSD: Tensor, first: int = 0, prompt_BSN: Tensor | None = None) -> Tensor:
        """Return what the routes make of tokens that are in visiting order, (B, K, S, D)."""
        sets = slice(first, first + u_BKSD.shape[1])
        parts_BKSP = torch.einsum("bksd,kpd->bksp", u_BKSD, self.x_proj_weight[sets])
        dt_BKSR, B_BKSN, C_BKSN = parts_BKSP.split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        delta_BKSD = torch.einsum("bksr,kdr->bksd", dt_BKSR, self.dt_projs_weight[sets])
        if prompt_BSN is not None:
            C_BKSN = C_BKSN + prompt_BSN[:, None]
        A_KDN, D_KD, bias_KD = self._constants(sets)
        y_BSE = selective_scan(  # routes side by side as groups of channels
            u_BKSD.transpose(1, 2).flatten(2),
            delta_BKSD.transpose(1, 2).flatten(2),
            A_KDN.flatten(0, 1),
            B_BKSN.transpose(1, 2),
            C_BKSN.transpose(1, 2),
            D_D=D_KD.flatten(),
            delta_bias_D=bias_KD.flatten(),
            delta_softplus=True,
        )
        return cast(Tensor, y_BSE).unflatten(2, (u_BKSD.shape[1], -1)).transpose(1, 2)

    def saved_macs(self, routes: Routes) -> int:
        """Return how many multiply-accumulates per picture the published codes add to what `forward` spends.

        They project what they have gathered, so padding and repeated visits too.
        """
        if routes.index_KL.ndim == 3:
            return 0
        num_routes, num_steps = routes.index_KL.shape
        return num_routes * (num_steps - routes.num_tokens) * self.width * 2 * (self.dt_rank + self.d_state)

    def _constants(self, sets: slice) -> tuple[Tensor, Tensor, Tensor]:
        A_KDN = -torch.exp(self.A_logs.float()).unflatten(0, (-1, self.width))[sets]
        return A_KDN, self.Ds.float().unflatten(0, (-1, self.width))[sets], self.dt_projs_bias.float()[sets]


def place(y_BKSD: Tensor, routes: Routes, merge: str) -> Tensor:
    """Put steps back at their tokens: their sum over the routes, (B, L, D), or with `merge` "none" (B, L, K, D).

    "scatter" promises that one route alone visits each token, so that nothing needs to be added.
    """
    if merge == "scatter" and routes.index_KL.ndim == 2:
        route_1L = (routes.inverse_KT >= 0).int().argmax(0, keepdim=True)
        step_L = (route_1L * y_BKSD.shape[2] + routes.inverse_KT.gather(0, route_1L))[0]
        return y_BKSD.flatten(1, 2).index_select(1, step_L)
    y_BKLD = routes.scatter(y_BKSD)
    return y_BKLD.transpose(1, 2) if merge == "none" else y_BKLD.sum(1)


def check_planar(scan: Scan, strides: tuple[int, ...] = (1,)) -> Scan:
    """Return the scan; raises `UsageError` where it walks over volumes, channels, or at none of these `strides`."""
    where = f"Scan '{scan.name}' cannot be taken by a state space over pictures"
    if scan.num_routes and 2 not in scan.axes:  # counting raises what is wrong with an order that takes no grid at all
        raise UsageError(f"{where}: it needs a volume; choose one over rows and columns, such as cross")
    for walk in scan.walks:
        if walk.axis == "channel":
            raise UsageError(f"{where}: it walks over channels; choose one over tokens alone, such as cross")
        if any(stride not in strides for stride in walk.strides((4, 4))):
            allowed = " or ".join(str(stride) for stride in strides)
            raise UsageError(
                f"{where}: it walks over a grid of stride {walk.scale}, and only {allowed} is possible here"
            )
    return scan

"""VMamba: a hierarchical backbone of selective scans along rows, columns and the reverses of both.

Liu et al., "VMamba: Visual State Space Model", NeurIPS 2024, arXiv 2401.10166, section 4; sizes and releases of the
published code. "v0" has a gate, 16 states and no feed-forward layer; the later "s2l5"/"s1l8" releases have no gate, one
state, a feed-forward layer and overlapping convolutions; "m2" runs Mamba-2's recurrence along the same routes.

| name         | C   | depths      | ratio | states | parameters | MACs at 224 | top-1 |
|--------------|-----|-------------|-------|--------|------------|-------------|-------|
| T v0         | 96  | 2, 2, 9, 2  | 2     | 16     | 22,893,448 | 5.627 G     | 82.2  |
| S v0         | 96  | 2, 2, 27, 2 | 2     | 16     | 44,417,416 | 11.231 G    | 83.5  |
| B v0         | 128 | 2, 2, 27, 2 | 2     | 16     | 76,254,056 | 18.020 G    | 83.7  |
| T s2l5       | 96  | 2, 2, 5, 2  | 2     | 1      | 30,705,832 | 4.858 G     | 82.5  |
| S s2l15      | 96  | 2, 2, 15, 2 | 2     | 1      | 50,147,752 | 8.716 G     | 83.6  |
| B s2l15      | 128 | 2, 2, 15, 2 | 2     | 1      | 88,557,800 | 15.359 G    | 83.9  |
| T s1l8       | 96  | 2, 2, 8, 2  | 1     | 1      | 30,249,064 | 4.906 G     | 82.6  |
| S s1l20      | 96  | 2, 2, 20, 2 | 1     | 1      | 49,012,840 | 8.612 G     | 83.3  |
| B s1l20      | 128 | 2, 2, 20, 2 | 1     | 1      | 86,614,504 | 15.221 G    | 83.8  |
| T m2         | 96  | 2, 2, 4, 2  | 1     | 64     | 25,340,296 |             |       |
| S m2         | 96  | 2, 2, 12, 2 | 1     | 64     | 39,079,816 |             |       |
| B m2         | 128 | 2, 2, 12, 2 | 1     | 64     | 67,527,528 |             |       |

Deviations: channels-last throughout, where the later releases are channels-first (their 1x1 convolutions are the same
linear maps); the ablation that scans columns after rows instead of beside them ("cascade") is left out.

Shape legend: B batch, L tokens, K routes, S steps, D inner channels, R heads of a route, H of all routes, E channels
of a head, N states, P = R + 2N projected channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.ffn import Mlp
from dehaze_bench.nn.ss2d import SS2D, Activation, MakeCore, SelectiveRoutes, check_planar, place
from dehaze_bench.nn.vss import Hierarchy, VSSBlock
from dehaze_bench.ops.ssd import ssd
from dehaze_bench.scans import Routes, Scan
from dehaze_bench.scans.planar import cross

CROSS = Scan("cross", cross, merge="sum")
ACTIVATIONS: dict[str, Activation] = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu}


class VMamba(Hierarchy):
    """Blocks of SS2D and, with `ffn_ratio` above 0, a feed-forward layer.

    `core` is "s6" (a selective scan for each route) or "ssd" (Mamba-2's recurrence, with `dt_rank` heads for each).
    `scan=None` is the cross-scan; any other scan over rows and columns is taken, with a parameter set for each route.
    """

    counting = "vmamba"

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 9, 2),
        dims: int | Sequence[int] = 96,
        d_state: int = 16,
        ratio: float = 2.0,
        dt_rank: int | None = None,
        gate: bool = True,
        conv: int = 3,
        conv_bias: bool = True,
        act: str = "silu",
        ffn_ratio: float = 0.0,
        stem: str = "patch",
        down: str = "merge",
        core: str = "s6",
        drop_path: float = 0.0,
        num_classes: int = 1000,
        scan: Scan | None = None,
    ) -> None:
        for key, value, known in (("act", act, ACTIVATIONS), ("core", core, CORES)):
            if value not in known:
                raise UsageError(f"VMamba: unknown {key} '{value}'. {nearest(value, known)}")
        walked = check_planar(CROSS if scan is None else scan)

        def block(stage: int, width: int, number: int, drop: float) -> VSSBlock:
            shape = (d_state, ratio, dt_rank, gate, conv, conv_bias)
            op = SS2D(width, walked.for_block(number), *shape, act=ACTIVATIONS[act], core=CORES[core])
            return VSSBlock(width, op, Mlp(width, int(width * ffn_ratio)) if ffn_ratio > 0 else None, drop)

        super().__init__(block, depths, dims, stem, down, drop_path, num_classes)


class DualRoutes(nn.Module):
    """Mamba-2's recurrence (SSD) along routes: R heads for each, whose step sizes are projected without a second map.

    B and C are shared by the heads of a route. Published shapes: `x_proj_weight` (K, P, D), `A_logs` and
    `dt_projs_bias` (K, R), `Ds` (K, R, E); published start: A = -1, D = 1, biases uniform in [0, 0.1]. Tokens are
    gathered in visiting order, as matrix products need them.
    """

    def __init__(self, width: int, num_routes: int, d_state: int, dt_rank: int) -> None:
        super().__init__()
        if width % dt_rank:
            raise UsageError(f"SSD routes cannot split {width} channels into dt_rank={dt_rank} heads of equal size")
        self.d_state, self.num_heads = d_state, dt_rank
        self.x_proj_weight = nn.Parameter(torch.empty(num_routes, dt_rank + 2 * d_state, width))
        self.A_logs = nn.Parameter(torch.zeros(num_routes, dt_rank))
        self.Ds = nn.Parameter(torch.ones(num_routes, dt_rank, width // dt_rank))
        self.dt_projs_bias = nn.Parameter(0.1 * torch.rand(num_routes, dt_rank))
        nn.init.uniform_(self.x_proj_weight, -(width**-0.5), width**-0.5)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("A_logs", "Ds")

    def forward(self, u_BLD: Tensor, routes: Routes, merge: str = "sum", first: int = 0) -> Tensor:
        """Return the sum of the routes at the tokens, (B, L, D), or with `merge` "none" each of them, (B, L, K, D)."""
        sets = slice(first, first + routes.num_routes)
        u_BKSD = routes.gather(u_BLD)
        parts_BSKP = torch.einsum("bksd,kpd->bskp", u_BKSD, self.x_proj_weight[sets])
        dt_BSKR, B_BSKN, C_BSKN = parts_BSKP.split([self.num_heads, self.d_state, self.d_state], dim=-1)
        y_BSHE = ssd(  # the heads of all routes side by side, a group of B and C for each route
            u_BKSD.transpose(1, 2).unflatten(3, (self.num_heads, -1)).flatten(2, 3),
            dt_BSKR.flatten(2),
            -torch.exp(self.A_logs[sets].float()).flatten(),
            B_BSKN,
            C_BSKN,
            D=self.Ds[sets].float().flatten(0, 1),
            dt_bias_H=self.dt_projs_bias[sets].float().flatten(),
            dt_softplus=True,
        )
        y_BSKD = cast(Tensor, y_BSHE).unflatten(2, (routes.num_routes, -1)).flatten(3)
        return place(y_BSKD.transpose(1, 2), routes, merge)


CORES: dict[str, MakeCore] = {"s6": SelectiveRoutes, "ssd": DualRoutes}

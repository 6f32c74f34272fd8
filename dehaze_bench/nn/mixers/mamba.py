"""The Mamba-1 block (S6): a selective state space along the sequence.

Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv 2312.00752, section 3.4 and
algorithm 2. Tensor names are those of the published implementation, so its state dicts load as they are.

Shape legend: B batch, L steps, C model channels, D inner channels, N state size, R rank of the step size.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.depthwise import convolve
from dehaze_bench.nn.mixers.mixer import Mixer, State
from dehaze_bench.ops.selective_scan import selective_scan

# Starts of -A, (D, N), all from table 8 of the paper: a state of its own decay each, one decay for all, and chance.
INITS: dict[str, Callable[[int, int], Tensor]] = {
    "real": lambda width, d_state: torch.arange(1.0, d_state + 1).repeat(width, 1),
    "constant": lambda width, d_state: torch.full((width, d_state), 0.5),
    "random": lambda width, d_state: torch.exp(torch.randn(width, d_state)),
}


class Mamba(Mixer):
    """Input projection, causal convolution, selective scan, gate, output projection.

    `d_conv=0` leaves the convolution out; then the tokens need no copy in visiting order: the scan reads them
    through `order_L`. `dt_rank=None` is ceil(dim / 16). The state matrix, the skip and the bias of the step size
    are kept in float32 and take no weight decay, as published. `gate=False` leaves the gate and its half of the input
    projection out.

    `init` is the state matrix to start from: "real", -(n + 1) as published (S4D-Real), "constant", -1/2, or "random",
    -exp of normal numbers. All are real, since the states are; complex ones (lin, inv, legs) are for the s4d mixer.

    Its state is what the convolution still sees, (B, d_conv - 1, D), without one (B, 0, D), and h, (B, D, N).
    """

    stateful = True

    def __init__(
        self,
        dim: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2.0,
        dt_rank: int | None = None,
        conv_bias: bool = True,
        bias: bool = False,
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        gate: bool = True,
        init: str = "real",
    ) -> None:
        super().__init__()
        if d_state < 1 or d_conv < 0 or int(expand * dim) < 1 or (dt_rank is not None and dt_rank < 1):
            raise UsageError(
                f"The mamba mixer needs d_state and dt_rank >= 1, d_conv >= 0 and expand * dim >= 1, not "
                f"d_state={d_state}, dt_rank={dt_rank}, d_conv={d_conv}, expand={expand} for {dim} channels"
            )
        if init not in INITS:
            raise UsageError(
                f"The mamba mixer has a real state matrix and no init '{init}'. {nearest(init, INITS)} Complex ones "
                "(lin, inv, legs) are for the s4d mixer."
            )
        self.d_state = d_state
        self.width = int(expand * dim)
        self.dt_rank = math.ceil(dim / 16) if dt_rank is None else dt_rank
        self.indexed = d_conv == 0
        self.gated = gate
        self.in_proj = nn.Linear(dim, 2 * self.width if gate else self.width, bias=bias)
        self.conv1d = None
        if d_conv:
            self.conv1d = nn.Conv1d(
                self.width, self.width, d_conv, padding=d_conv - 1, groups=self.width, bias=conv_bias
            )
        self.x_proj = nn.Linear(self.width, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.width)
        self.A_log = nn.Parameter(torch.log(INITS[init](self.width, d_state)))
        self.D = nn.Parameter(torch.ones(self.width))
        self.out_proj = nn.Linear(self.width, dim, bias=bias)
        self._init_step_size(dt_min, dt_max)

    def _init_step_size(self, dt_min: float, dt_max: float, floor: float = 1e-4) -> None:
        """Draw the bias so that softplus(bias) is log-uniform in [dt_min, dt_max] (arXiv 2312.00752, 3.6)."""
        bound = self.dt_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        low, high = math.log(dt_min), math.log(dt_max)
        step = torch.exp(torch.rand(self.width) * (high - low) + low).clamp(min=floor)
        with torch.no_grad():
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("A_log", "D", "dt_proj.bias")

    def enter(self, x_BLC: Tensor) -> tuple[Tensor, Tensor | None]:
        s_BLE = self.in_proj(x_BLC)
        if not self.gated:
            return s_BLE, None
        s_BLD, z_BLD = s_BLE.chunk(2, dim=-1)
        return s_BLD, z_BLD

    def mix(self, s_BLD: Tensor, order_L: Tensor | None = None) -> Tensor:
        y_BLD, _ = self._scan(*self.drive(s_BLD), order_L=order_L)
        return y_BLD

    def mix_with_state(self, s_BLD: Tensor, state: State | None) -> tuple[Tensor, State]:
        seen = 0 if self.conv1d is None else int(self.conv1d.padding[0])
        if state is None:
            before_BWD, h_BDN = s_BLD.new_zeros(s_BLD.shape[0], seen, self.width), None
        else:
            before_BWD, h_BDN = state
        longer_BLD = torch.cat([before_BWD, s_BLD], dim=1)
        u_BLD, delta_BLD, B_BLN, C_BLN = (part[:, seen:] for part in self.drive(longer_BLD))
        y_BLD, h_BDN = self._scan(u_BLD, delta_BLD, B_BLN, C_BLN, h_BDN=h_BDN)
        return y_BLD, (longer_BLD[:, s_BLD.shape[1] :], h_BDN)

    def drive(self, s_BLD: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what drives the recurrence: u and its step sizes, (B, L, D), and B and C, (B, L, N)."""
        if self.conv1d is not None:
            s_BLD = convolve(self.conv1d, s_BLD)
        u_BLD = F.silu(s_BLD)
        dt_BLR, B_BLN, C_BLN = self.x_proj(u_BLD).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        return u_BLD, F.linear(dt_BLR, self.dt_proj.weight), B_BLN, C_BLN

    def _scan(
        self,
        u_BLD: Tensor,
        delta_BLD: Tensor,
        B_BLN: Tensor,
        C_BLN: Tensor,
        order_L: Tensor | None = None,
        h_BDN: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return y, (B, L, D), and the last state, (B, D, N)."""
        y_BLD, last_BDN = selective_scan(
            u_BLD,
            delta_BLD,
            -torch.exp(self.A_log.float()),
            B_BLN,
            C_BLN,
            D_D=self.D.float(),
            delta_bias_D=self.dt_proj.bias.float(),
            delta_softplus=True,
            order_L=order_L,
            initial_BDN=h_BDN,
            return_last_state=True,
        )
        return y_BLD, last_BDN

    def leave(self, y_BLD: Tensor, gate_BLD: Tensor | None) -> Tensor:
        return self.out_proj(y_BLD if gate_BLD is None else y_BLD * F.silu(gate_BLD))

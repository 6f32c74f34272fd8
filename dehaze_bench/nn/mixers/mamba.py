"""The Mamba-1 block (S6): a selective state space along the sequence.

Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv 2312.00752, section 3.4 and
algorithm 2. Tensor names are those of the published implementation, so its state dicts load as they are.

Shape legend: B batch, L steps, C model channels, D inner channels, N state size, R rank of the step size.
"""

from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.depthwise import convolve
from dehaze_bench.nn.mixers.mixer import Mixer
from dehaze_bench.ops.selective_scan import selective_scan


class Mamba(Mixer):
    """Input projection, causal convolution, selective scan, gate, output projection.

    `d_conv=0` leaves the convolution out; then the tokens need no copy in visiting order: the scan reads them
    through `order_L`. `dt_rank=None` is ceil(dim / 16). The state matrix, the skip and the bias of the step size
    are kept in float32 and take no weight decay, as published.
    """

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
    ) -> None:
        super().__init__()
        if d_state < 1 or d_conv < 0 or int(expand * dim) < 1:
            raise UsageError(
                f"The mamba mixer needs d_state >= 1, d_conv >= 0 and expand * dim >= 1, "
                f"not d_state={d_state}, d_conv={d_conv}, expand={expand} for {dim} channels"
            )
        self.d_state = d_state
        self.width = int(expand * dim)
        self.dt_rank = math.ceil(dim / 16) if dt_rank is None else dt_rank
        self.indexed = d_conv == 0
        self.in_proj = nn.Linear(dim, 2 * self.width, bias=bias)
        self.conv1d = None
        if d_conv:
            self.conv1d = nn.Conv1d(
                self.width, self.width, d_conv, padding=d_conv - 1, groups=self.width, bias=conv_bias
            )
        self.x_proj = nn.Linear(self.width, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.width)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, d_state + 1)).repeat(self.width, 1))
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
        s_BLD, z_BLD = self.in_proj(x_BLC).chunk(2, dim=-1)
        return s_BLD, z_BLD

    def mix(self, s_BLD: Tensor, order_L: Tensor | None = None) -> Tensor:
        if self.conv1d is not None:
            s_BLD = convolve(self.conv1d, s_BLD)
        u_BLD = F.silu(s_BLD)
        dt_BLR, B_BLN, C_BLN = self.x_proj(u_BLD).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        delta_BLD = F.linear(dt_BLR, self.dt_proj.weight)
        y_BLD = selective_scan(
            u_BLD,
            delta_BLD,
            -torch.exp(self.A_log.float()),
            B_BLN,
            C_BLN,
            D_D=self.D.float(),
            delta_bias_D=self.dt_proj.bias.float(),
            delta_softplus=True,
            order_L=order_L,
        )
        assert isinstance(y_BLD, Tensor)
        return y_BLD

    def leave(self, y_BLD: Tensor, gate_BLD: Tensor | None) -> Tensor:
        assert gate_BLD is not None
        return self.out_proj(y_BLD * F.silu(gate_BLD))

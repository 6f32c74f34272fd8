"""A time-invariant state space (S4D) as a mixer: the control of what selectivity adds.

Gu et al., "On the Parameterization and Initialization of Diagonal State Space Models", arXiv 2206.11893. The state
space stands in the frame of the Mamba block, so that the two differ in the recurrence: a gate by a second projection
in the place of the published gated linear unit, and no convolution.

Shape legend: B batch, L steps, C model channels, D inner channels, N modes.
"""

from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.mixers.mixer import Mixer
from dehaze_bench.ops.lti import METHODS, initial_modes, lti


class S4D(Mixer):
    """Input projection, one linear time-invariant system per channel, GELU, gate, output projection.

    `init` is the state matrix to start from: lin, inv, legs and random have d_state / 2 conjugate pairs of modes, real
    has d_state real ones. `discretization` is zoh or bilinear. B is one: of a diagonal system only the product of B and
    C matters, so C starts as random numbers times the B of the initialisation. Complex parameters are kept as pairs of
    real ones. Steps and state matrix take no weight decay.
    """

    def __init__(
        self,
        dim: int,
        d_state: int = 64,
        init: str = "lin",
        discretization: str = "zoh",
        expand: float = 2.0,
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
    ) -> None:
        super().__init__()
        self.width = int(expand * dim)
        if self.width < 1 or not 0 < dt_min <= dt_max:
            raise UsageError(
                f"The s4d mixer needs expand * dim >= 1 and 0 < dt_min <= dt_max, not expand={expand} for {dim} "
                f"channels, dt_min={dt_min}, dt_max={dt_max}"
            )
        if discretization not in METHODS:
            raise UsageError(f"no discretisation '{discretization}'. {nearest(discretization, METHODS)}")
        self.discretization = discretization
        self.in_proj = nn.Linear(dim, 2 * self.width)
        A_N, B_N = initial_modes(init, d_state)
        C_DN = torch.randn(self.width, len(A_N), dtype=A_N.dtype) * B_N
        self.log_dt = nn.Parameter(torch.empty(self.width).uniform_(math.log(dt_min), math.log(dt_max)))
        self.log_A_real = nn.Parameter(torch.log(-A_N.real).repeat(self.width, 1))
        self.A_imag = nn.Parameter(A_N.imag.repeat(self.width, 1)) if A_N.is_complex() else None
        self.C = nn.Parameter(torch.view_as_real(C_DN).clone() if A_N.is_complex() else C_DN)
        self.D = nn.Parameter(torch.ones(self.width))
        self.out_proj = nn.Linear(self.width, dim)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("log_dt", "log_A_real", "A_imag", "D")

    def enter(self, x_BLC: Tensor) -> tuple[Tensor, Tensor | None]:
        s_BLD, gate_BLD = self.in_proj(x_BLC).chunk(2, dim=-1)
        return s_BLD, gate_BLD

    def mix(self, s_BLD: Tensor, order_L: Tensor | None = None) -> Tensor:
        A_DN, C_DN = -torch.exp(self.log_A_real.float()), self.C.float()
        if self.A_imag is not None:
            A_DN, C_DN = torch.complex(A_DN, self.A_imag.float()), torch.view_as_complex(C_DN)
        y_BLD = lti(
            s_BLD,
            torch.exp(self.log_dt.float()),
            A_DN,
            torch.ones_like(C_DN),
            C_DN,
            self.D.float(),
            order_L,
            self.discretization,
        )
        return F.gelu(y_BLD)

    def leave(self, y_BLD: Tensor, gate_BLD: Tensor | None) -> Tensor:
        assert gate_BLD is not None
        return self.out_proj(y_BLD * F.silu(gate_BLD))

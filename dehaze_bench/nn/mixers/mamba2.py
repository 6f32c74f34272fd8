"""The Mamba-2 block (SSD): a state space with one decay per head along the sequence.

Dao and Gu, "Transformers are SSMs", arXiv 2405.21060, sections 6 and 7. Tensor names and shapes are those of the
published `Mamba2` (and of `Mamba2Simple` with one group), so their state dicts load as they are; `d_ssm`, learnable
initial states and a skip per channel are left out.

Shape legend: B batch, L steps, C model channels, D inner channels, H heads, P channels of a head, G groups, N states.
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
from dehaze_bench.ops.ssd import ssd

LARGEST_DEFAULT_HEAD = 16


class Mamba2(Mixer):
    """Input projection, causal convolution of x, B and C, SSD, gated norm, output projection.

    The inner width, int(expand * dim), must be a multiple of `ngroups * headdim`. None takes the largest `headdim` up
    to 16 that fits: the published 64 would leave one or two heads, hence decays, at the widths of an image restorer.
    `group_norm` normalises within each of the `ngroups` groups, as the published Mamba2 does; the published
    Mamba2Simple normalises over all channels. The decays, the skip and the bias of the step size are kept in float32
    and take no weight decay, as published.
    """

    def __init__(
        self,
        dim: int,
        d_state: int = 64,
        d_conv: int = 4,
        expand: float = 2.0,
        headdim: int | None = None,
        ngroups: int = 1,
        conv_bias: bool = True,
        bias: bool = False,
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        group_norm: bool = True,
    ) -> None:
        super().__init__()
        self.width = int(expand * dim)
        if d_state < 1 or d_conv < 1 or self.width < 1 or ngroups < 1:
            raise UsageError(
                f"The mamba2 mixer needs d_state, d_conv and ngroups >= 1 and expand * dim >= 1, not "
                f"d_state={d_state}, d_conv={d_conv}, ngroups={ngroups}, expand={expand} for {dim} channels"
            )
        fitting = [n for n in range(1, self.width + 1) if self.width % (n * ngroups) == 0]
        if headdim is None and fitting:
            headdim = max(n for n in fitting if n <= LARGEST_DEFAULT_HEAD)
        if headdim not in fitting:
            wanted = 1 if headdim is None else headdim
            remedy = min(fitting, key=lambda n: abs(n - wanted), default=None)
            raise UsageError(
                f"The mamba2 mixer's inner width {self.width} cannot be split into ngroups={ngroups} groups of whole "
                f"heads of headdim={headdim} channels: use "
                + ("ngroups=1" if remedy is None else f"headdim={remedy}, or null to have one chosen")
            )
        self.d_state, self.ngroups, self.num_heads = d_state, ngroups, self.width // headdim
        mixed = self.width + 2 * ngroups * d_state
        self.in_proj = nn.Linear(dim, self.width + mixed + self.num_heads, bias=bias)
        self.conv1d = nn.Conv1d(mixed, mixed, d_conv, padding=d_conv - 1, groups=mixed, bias=conv_bias)
        step_H = torch.exp(torch.empty(self.num_heads).uniform_(math.log(dt_min), math.log(dt_max))).clamp(min=1e-4)
        self.dt_bias = nn.Parameter(step_H + torch.log(-torch.expm1(-step_H)))  # inverse of softplus
        self.A_log = nn.Parameter(torch.empty(self.num_heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(self.num_heads))
        self.norm = GatedRMSNorm(self.width, ngroups if group_norm else 1)
        self.out_proj = nn.Linear(self.width, dim, bias=bias)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("A_log", "D", "dt_bias")

    def enter(self, x_BLC: Tensor) -> tuple[Tensor, Tensor | None]:
        projected = self.in_proj(x_BLC)
        return projected[..., self.width :], projected[..., : self.width]

    def mix(self, s_BLD: Tensor, order_L: Tensor | None = None) -> Tensor:
        xBC_BLE, dt_BLH = s_BLD.split([s_BLD.shape[2] - self.num_heads, self.num_heads], dim=-1)
        xBC_BLE = F.silu(convolve(self.conv1d, xBC_BLE))
        shared = self.ngroups * self.d_state
        x_BLD, B_BLE, C_BLE = xBC_BLE.split([self.width, shared, shared], dim=-1)
        y_BLHP = ssd(
            x_BLD.unflatten(2, (self.num_heads, -1)),
            dt_BLH,
            -torch.exp(self.A_log.float()),
            B_BLE.unflatten(2, (self.ngroups, -1)),
            C_BLE.unflatten(2, (self.ngroups, -1)),
            D=self.D.float(),
            dt_bias_H=self.dt_bias.float(),
            dt_softplus=True,
        )
        assert isinstance(y_BLHP, Tensor)
        return y_BLHP.flatten(2)

    def leave(self, y_BLD: Tensor, gate_BLD: Tensor | None) -> Tensor:
        assert gate_BLD is not None
        return self.out_proj(self.norm(y_BLD, gate_BLD))


class GatedRMSNorm(nn.Module):
    """RMS norm of y * silu(z) within each of `groups` equal parts of the channels, then a weight per channel."""

    def __init__(self, dim: int, groups: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, y_BLD: Tensor, z_BLD: Tensor) -> Tensor:
        y_BLGD = (y_BLD * F.silu(z_BLD)).unflatten(2, (self.groups, -1))
        return F.rms_norm(y_BLGD, y_BLGD.shape[-1:], eps=self.eps).flatten(2) * self.weight

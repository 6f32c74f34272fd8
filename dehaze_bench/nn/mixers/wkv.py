"""Bidirectional WKV attention with token shift (Vision-RWKV spatial mix, along a route).

Duan et al., "Vision-RWKV", arXiv 2403.02308, equations 1-5. The published block shifts tokens on the plane
(`nn.shift.q_shift`); a mixer knows only its sequence, so here the two neighbours on the route lend channels.

Shape legend: B batch, L steps, C channels.
"""

from __future__ import annotations

import math

import torch
import torch.nn as nn
from torch import Tensor

from dehaze_bench.nn.mixers.mixer import Mixer
from dehaze_bench.nn.shift import blend, route_shift
from dehaze_bench.ops.wkv import bi_wkv


class BiWKV(Mixer):
    """Receptance-gated linear attention whose weights decay with the distance along the route, both ways.

    Decay and bonus start as in the published "fancy" initialisation for the first of `num_layers` layers; they
    are divided by the number of tokens inside the operator and take no weight decay.
    """

    def __init__(self, dim: int, layer: int = 0, num_layers: int = 1) -> None:
        super().__init__()
        self.width = dim
        self.spatial_decay = nn.Parameter(decay_start(dim, layer, num_layers))
        self.spatial_first = nn.Parameter(first_start(dim))
        self.spatial_mix_k = nn.Parameter(mix_start(dim, layer, num_layers, "k"))
        self.spatial_mix_v = nn.Parameter(mix_start(dim, layer, num_layers, "v"))
        self.spatial_mix_r = nn.Parameter(mix_start(dim, layer, num_layers, "r"))
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.receptance = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("spatial_decay", "spatial_first", "spatial_mix_k", "spatial_mix_v", "spatial_mix_r")

    def enter(self, x_BLC: Tensor) -> tuple[Tensor, Tensor | None]:
        return x_BLC, None

    def mix(self, s_BLD: Tensor, order_L: Tensor | None = None) -> Tensor:
        shifted_BLC = route_shift(s_BLD)
        k_BLC = self.key(blend(shifted_BLC, s_BLD, self.spatial_mix_k))
        v_BLC = self.value(blend(shifted_BLC, s_BLD, self.spatial_mix_v))
        r_BLC = self.receptance(blend(shifted_BLC, s_BLD, self.spatial_mix_r))
        y_BLC = bi_wkv(self.spatial_decay.float(), self.spatial_first.float(), k_BLC, v_BLC)
        return torch.sigmoid(r_BLC) * y_BLC

    def leave(self, y_BLD: Tensor, gate_BLD: Tensor | None) -> Tensor:
        return self.output(y_BLD)


def decay_start(dim: int, layer: int, num_layers: int) -> Tensor:
    """Return the decays (C,) that layer `layer` of `num_layers` starts with: -5 to 3, later layers more of them low."""
    position_C = torch.arange(dim) / max(1, dim - 1)
    return -5 + 8 * position_C ** (0.7 + 1.3 * layer / max(1, num_layers - 1))


def first_start(dim: int) -> Tensor:
    """Return the bonuses (C,) of a token for itself: log 0.3 and half a unit up or down in turn."""
    return math.log(0.3) + 0.5 * ((torch.arange(dim) + 1) % 3 - 1)


def mix_start(dim: int, layer: int, num_layers: int, name: str) -> Tensor:
    """Return the share (C,) of the token itself against its shifted neighbours for key, value or receptance."""
    share_C = torch.arange(dim) / dim
    early = 1 - layer / num_layers
    if name == "v":
        return share_C**early + 0.3 * layer / max(1, num_layers - 1)
    return share_C ** (0.5 * early if name == "r" else early)

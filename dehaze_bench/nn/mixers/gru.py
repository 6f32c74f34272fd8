"""A gated recurrent unit along the sequence, both ways: the recurrent control of the state spaces.

Cho et al., arXiv 1406.1078, in torch's form. Its steps depend on each other through a nonlinearity, so no scan shortens
them: the time is that of L small products in a row.

Shape legend: B batch, L steps, C model channels, D inner channels, E hidden channels per direction.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.mixers.mixer import Mixer


class GRU(Mixer):
    """One layer in each direction with half of about `expand * dim` hidden channels each, then a projection."""

    def __init__(self, dim: int, expand: float = 1.0) -> None:
        super().__init__()
        if expand <= 0:
            raise UsageError(f"The gru mixer needs expand > 0, not {expand}")
        hidden = max(1, round(expand * dim / 2))
        self.width = 2 * hidden
        self.gru = nn.GRU(dim, hidden, batch_first=True, bidirectional=True)
        self.out_proj = nn.Linear(self.width, dim)

    def enter(self, x_BLC: Tensor) -> tuple[Tensor, Tensor | None]:
        return x_BLC, None

    def mix(self, s_BLD: Tensor, order_L: Tensor | None = None) -> Tensor:
        if s_BLD.is_meta:
            return self._trace(s_BLD)
        with torch.autocast(s_BLD.device.type, enabled=False):  # the state is carried in the format of the weights
            y_BLD: Tensor = self.gru(s_BLD.to(cast(Tensor, self.gru.weight_hh_l0).dtype))[0]
        return y_BLD

    def leave(self, y_BLD: Tensor, gate_BLD: Tensor | None) -> Tensor:
        return self.out_proj(y_BLD)

    def _trace(self, s_BLC: Tensor) -> Tensor:
        """Return a tensor of the right shape by products of the right size, all steps at once.

        Without data there is nothing that one step could wait for, and torch would take minutes for the loop.
        """
        h_BLE = s_BLC.new_empty(*s_BLC.shape[:2], self.width // 2)
        outputs = []
        for suffix in ("l0", "l0_reverse"):
            weight_input, weight_hidden = (getattr(self.gru, f"weight_{kind}_{suffix}") for kind in ("ih", "hh"))
            gates_BLE = F.linear(s_BLC, weight_input) + F.linear(h_BLE, weight_hidden)
            outputs.append(gates_BLE[..., : self.width // 2])
        return torch.cat(outputs, dim=-1)

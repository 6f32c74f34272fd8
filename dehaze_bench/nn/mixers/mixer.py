"""What every sequence mixer is made of: a map in, a recurrence along the sequence, a map out.

Shape legend: B batch, L steps, C model channels, D inner channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError

# What a mixer remembers at the end of a sequence: what it needs to go on as if the sequence had not ended.
State = tuple[Tensor, ...]


class Mixer(nn.Module, ABC):
    """A token mixer in three parts, so that a scanned layer can run the middle one along several routes.

    `enter` and `leave` act on each token alone and are computed once, whatever the number of routes; only `mix`
    sees neighbours. `width` is the number of channels that `mix` returns.
    A mixer whose `indexed` is true reads tokens through `order_L` by itself, so no permuted copy is made. One whose
    `stateful` is true can start from the state in which another sequence ended.
    """

    width: int
    indexed: bool = False
    stateful: bool = False

    @abstractmethod
    def enter(self, x_BLC: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the tokens that are mixed and, where the mixer has one, the gate."""

    @abstractmethod
    def mix(self, s_BLD: Tensor, order_L: Tensor | None = None) -> Tensor:
        """Mix along the sequence, (B, L, D_in) to (B, L, D)."""

    def mix_with_state(self, s_BLD: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Mix from `state` on, None being the empty one; also return the state at the end.

        Two halves of a sequence, the second from the state of the first, give what `mix` gives for the whole. Raises
        `UsageError` for a mixer that is not `stateful`.
        """
        raise UsageError(f"{type(self).__name__} keeps no state between sequences: use a mixer that does")

    @abstractmethod
    def leave(self, y_BLD: Tensor, gate_BLD: Tensor | None) -> Tensor:
        """Map the mixed tokens back to the model's channels."""

    def forward(self, x_BLC: Tensor) -> Tensor:
        s_BLD, gate_BLD = self.enter(x_BLC)
        return self.leave(self.mix(s_BLD), gate_BLD)

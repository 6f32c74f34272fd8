"""Which directions a layer should walk: a supernet over candidates, with a learned weight for each.

Shape legend: B batch, K routes, T tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.merge import Merge

KEPT = 4  # directions per layer, as published


@dataclass(frozen=True)
class Found:
    """What a search found for one layer: the directions to keep, and the weight of every candidate (they sum to 1)."""

    layer: str
    directions: list[str]
    weights: dict[str, float]


class DirectionSearch(Merge):
    """Merge routes by the softmax of one weight per direction (LocalMamba, arXiv 2403.09338, section 3.3).

    Each route passes the shared channel attention and a norm without gain, so that a weight speaks for a direction
    and not for the size of its numbers. After training, `best` names what to keep.
    """

    def __init__(self, directions: Sequence[str], dim: int) -> None:
        super().__init__("attention", len(directions), dim)
        self.directions = tuple(directions)
        self.weights = nn.Parameter(1e-3 * torch.randn(len(self.directions)))

    def forward(self, y_BKTD: Tensor, visits_T: Tensor | None = None) -> Tensor:
        """Merge (B, K, T, D) into (B, T, D)."""
        assert self.attn is not None
        y_BKTD = self.attn(y_BKTD.flatten(0, 1)).unflatten(0, y_BKTD.shape[:2])
        y_BKTD = F.layer_norm(y_BKTD, y_BKTD.shape[-1:])
        return (y_BKTD * self.weights.softmax(0)[:, None, None]).sum(1)

    def best(self, keep: int = KEPT) -> list[str]:
        """Return the `keep` directions of the largest weights, in the order of the candidates."""
        num = len(self.directions)
        if not 1 <= keep <= num:
            raise UsageError(f"A search over {num} directions can keep 1 to {num} of them, not {keep}")
        return [self.directions[k] for k in sorted(self.weights.topk(keep).indices.tolist())]


def read_searches(network: nn.Module, keep: int = KEPT) -> list[Found]:
    """Return what the searches in a network found, layer by layer; empty for a network that searches nothing."""
    found = []
    for name, module in network.named_modules():
        if isinstance(module, DirectionSearch):
            weights = module.weights.detach().softmax(0).tolist()
            found.append(Found(name, module.best(keep), dict(zip(module.directions, weights, strict=True))))
    return found

"""Orders that are found in the forward pass: by the content of the tokens, or by chance.

Shape legend: B batch, K routes, T tokens of the grid, D channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.scans.grid import Grid

SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x_BTD: x_BTD.mean(dim=2),
    "norm": lambda x_BTD: x_BTD.norm(dim=2),
    "deviation": lambda x_BTD: (x_BTD - x_BTD.mean(dim=1, keepdim=True)).norm(dim=2),
}


class ByContent:
    """Tokens sorted by a score, so that similar tokens follow each other however far apart they lie.

    `score` is the "mean" of a token over its channels, its "norm", or its "deviation", the distance from the mean
    token of its picture. The order is ascending; `reverse` adds a second route, descending. Equal scores keep their
    raster order. The order takes no gradient.
    """

    def __init__(self, score: str = "mean", reverse: bool = False) -> None:
        if score not in SCORES:
            raise UsageError(f"scan.order.score of 'by_content': unknown '{score}'. {nearest(score, SCORES)}")
        self.score, self.reverse = score, reverse
        self.num_routes = 2 if reverse else 1

    def draw(self, x_BTD: Tensor, grid: Grid) -> Tensor:
        """Return int64 ids (B, K, T)."""
        order_BT = SCORES[self.score](x_BTD.detach().float()).argsort(dim=1, stable=True)
        return torch.stack([order_BT, order_BT.flip(1)] if self.reverse else [order_BT], dim=1)


class Shuffle:
    """A fresh permutation in every forward pass, in evaluation too, the same for all pictures of a batch.

    As RSMamba (arXiv 2403.19654) has it. The permutations come from `generator`, or, without one, from torch's global
    generator on the CPU: outputs repeat only where the one that is used is seeded.
    """

    def __init__(self, routes: int = 1, generator: torch.Generator | None = None) -> None:
        if routes < 1:
            raise UsageError(f"scan.order.routes of a shuffle is at least 1, not {routes}")
        self.num_routes, self.generator = routes, generator

    def draw(self, x_BTD: Tensor, grid: Grid) -> Tensor:
        """Return int64 ids (B, K, T)."""
        batch, tokens = x_BTD.shape[:2]
        device = "cpu" if self.generator is None else self.generator.device
        drawn = [torch.randperm(tokens, generator=self.generator, device=device) for _ in range(self.num_routes)]
        return torch.stack(drawn).to(x_BTD.device).expand(batch, -1, -1).contiguous()

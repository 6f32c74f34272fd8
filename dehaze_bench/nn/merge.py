"""How the outputs of the routes of a scan become one.

Shape legend: B batch, K routes, T tokens, D channels.
"""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.channel_attention import ChannelAttention
from dehaze_bench.scans import MERGES


class Merge(nn.Module):
    """Merge (B, K, T, D) into (B, T, D) by the rule that a scan states; only three rules have parameters.

    "sum"; "scatter", a sum too, where every token belongs to one route; "mean" over the routes that visit a token;
    "concat", all routes side by side and a linear map back; "gate", weights that sum to one over the routes, from the
    token means of all of them (RSMamba, arXiv 2403.19654, equation 6); "attention", one channel attention for every
    route, then the sum (LocalMamba, arXiv 2403.09338, section 3.2).
    """

    def __init__(self, rule: str, num_routes: int, dim: int) -> None:
        super().__init__()
        if rule not in MERGES:
            raise UsageError(f"Unknown merge rule '{rule}'. {nearest(rule, MERGES)}")
        self.rule = rule
        self.weigh: nn.Linear | None = None
        self.join: nn.Linear | None = None
        self.attn: ChannelAttention | None = None
        if rule == "gate":
            self.weigh = nn.Linear(num_routes * dim, num_routes, bias=False)
        elif rule == "concat":
            self.join = nn.Linear(num_routes * dim, dim)
        elif rule == "attention":
            self.attn = ChannelAttention(dim)

    def forward(self, y_BKTD: Tensor, visits_T: Tensor | None = None) -> Tensor:
        """`visits_T` counts the routes that visit each token; None means all of them."""
        if self.rule == "mean":
            return y_BKTD.mean(1) if visits_T is None else y_BKTD.sum(1) / visits_T[:, None]
        if self.weigh is not None:
            weights_BK = torch.softmax(self.weigh(y_BKTD.mean(2).flatten(1)), dim=1)
            return (y_BKTD * weights_BK[:, :, None, None]).sum(1)
        if self.join is not None:
            return self.join(y_BKTD.transpose(1, 2).flatten(2))
        if self.attn is not None:
            y_BKTD = self.attn(y_BKTD.flatten(0, 1)).unflatten(0, y_BKTD.shape[:2])
        return y_BKTD.sum(1)

    def extra_repr(self) -> str:
        return self.rule

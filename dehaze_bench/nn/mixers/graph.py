"""Graph convolution between similar tokens: the graph control of the recurrences.

Han et al., "Vision GNN", NeurIPS 2022, arXiv 2206.00272, equations 3-6: every token is a node, its edges lead to the k
nearest tokens in feature space, and the max-relative convolution (Li et al., arXiv 1904.03751) gathers from them.

Shape legend: B batch, L steps, M windows, W window length, E edges of a node, D inner channels.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.mixers.mixer import Mixer


class GraphConv(Mixer):
    """Max-relative graph convolution among the `neighbours` nearest tokens of a window of the route.

    Edges are looked for among `window` successive tokens of the route, so that the cost is linear in the length and the
    scan decides which tokens can meet. A token is its own first neighbour; a window with fewer tokens has fewer edges.
    """

    def __init__(self, dim: int, neighbours: int = 9, window: int = 256, expand: float = 1.0) -> None:
        super().__init__()
        if not 1 <= neighbours <= window:
            raise UsageError(f"The graph mixer's neighbours must be in [1, window={window}], not {neighbours}")
        self.neighbours, self.window = neighbours, window
        self.width = int(dim * expand)
        self.in_proj = nn.Linear(dim, self.width)
        self.join = nn.Linear(2 * self.width, self.width)
        self.out_proj = nn.Linear(self.width, dim)

    def enter(self, x_BLC: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.in_proj(x_BLC), None

    def mix(self, s_BLD: Tensor, order_L: Tensor | None = None) -> Tensor:
        length = s_BLD.shape[1]
        window = min(self.window, length)
        s_MWD = F.pad(s_BLD, (0, 0, 0, -length % window)).unflatten(1, (-1, window))
        index_BMWE = self._nearest(s_MWD.detach(), length)
        batch, num_windows = s_MWD.shape[:2]
        flat = index_BMWE.flatten(2)[..., None].expand(-1, -1, -1, s_MWD.shape[-1])
        others_BMWED = s_MWD.gather(2, flat).view(batch, num_windows, window, -1, s_MWD.shape[-1])
        relative = (others_BMWED - s_MWD[..., None, :]).amax(dim=3)
        y = F.gelu(self.join(torch.cat([s_MWD, relative], dim=-1)))
        return y.flatten(1, 2)[:, :length]

    def _nearest(self, s_BMWD: Tensor, length: int) -> Tensor:
        """Return the positions in the window of the nearest real tokens, (B, M, W, E)."""
        window = s_BMWD.shape[2]
        unit = F.normalize(s_BMWD.float(), dim=-1)
        distance_BMWW = -(unit @ unit.mT)
        last = length - (s_BMWD.shape[1] - 1) * window  # real tokens of the last window
        if last < window:
            distance_BMWW[:, -1, :, last:] = torch.inf
        distance_BMWW.diagonal(dim1=-2, dim2=-1).fill_(-2.0)  # nearer than any other
        nearest = distance_BMWW.topk(min(self.neighbours, window), dim=-1, largest=False)
        # Where a window has fewer real tokens than edges, the token itself stands for the missing ones.
        own = torch.arange(window, device=s_BMWD.device)[:, None].expand_as(nearest.indices)
        return torch.where(nearest.values.isinf(), own, nearest.indices)

    def leave(self, y_BLD: Tensor, gate_BLD: Tensor | None) -> Tensor:
        return self.out_proj(y_BLD)

"""EAMamba: Restormer's skeleton with selective scans whose routes share the channels out.

Lin, Xu, Chen, Kuo, Lee, "EAMamba: Efficient All-Around Vision State Space Model for Image Restoration", ICCV 2025,
arXiv 2506.22246. One size for all tasks at the size of the input, dehazing among them.

| dim | blocks     | refinement | parameters | MACs at 256 + scan |
|-----|------------|------------|------------|--------------------|
| 64  | 4, 6, 6, 7 | 2          | 25,320,512 | 121.0 G + 15.7 G   |

Deviations: none in what is computed. The released dehazing options lack `upscale: 1` and would build the network for
twofold enlargement, which is left out here, as are the one-dimensional convolution and the mixer "CCA".

Shape legend: B batch, H and W grid, L tokens, K routes (heads), S steps of a route, C channels, D inner channels, E
channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.four_levels import FourLevels
from dehaze_bench.nn.gated_ffn import GatedDepthwiseFFN
from dehaze_bench.nn.prenorm import PreNormBlock
from dehaze_bench.nn.ss2d import SS2D, SelectiveRoutes
from dehaze_bench.scans import Routes, Scan, diagonal

ALL_AROUND = Scan("diagonal_cross", diagonal.diagonal_cross)


class EAMamba(FourLevels):
    """Blocks of multi-head selective scan and gated feed-forward on four levels; their residual joins the input.

    `scan=None` are both diagonals, rows and columns, there and back. With `heads`, as published, each route has its own
    share of the channels, so that the cost does not depend on how many there are; the number of routes must divide the
    channels, and each must visit every token once. Without, every route sees all channels, and routes are merged as
    the scan says ("add" in the published code is their sum). `ffn` is "simple" (published), "gdfn" or "ffn".
    """

    output_range = "residual added to the input, not clamped"

    def __init__(
        self,
        dim: int = 64,
        depths: Sequence[int] = (4, 6, 6, 7),
        refinement: int = 2,
        heads: bool = True,
        d_state: int = 16,
        expand: float = 1.0,
        conv: int = 3,
        gate: bool = True,
        ffn: str = "simple",
        ffn_expansion: float = 2.0,
        bias: bool = False,
        norm: str = "withbias",
        channels: int = 3,
        scan: Scan | None = None,
    ) -> None:
        if ffn not in FEED_FORWARD:
            raise UsageError(f"Unknown ffn '{ffn}' of EAMamba. {nearest(ffn, FEED_FORWARD)}")
        walked, numbers = ALL_AROUND if scan is None else scan, count()
        core = SelectiveHeads if heads else None

        def block(width: int) -> PreNormBlock:
            one = walked.for_block(next(numbers))
            one = replace(one, merge="sum") if heads else one  # heads leave nothing to merge
            attn = SS2D(width, one, d_state, expand, gate=gate, conv=conv, core=core)
            return PreNormBlock(width, attn, FEED_FORWARD[ffn](width, ffn_expansion, bias), norm)

        def make_level(level: int, width: int, depth: int) -> nn.Module:
            return nn.Sequential(*(block(width) for _ in range(depth)))

        super().__init__(make_level, dim, depths, refinement, channels, channels, bias)


class SelectiveHeads(SelectiveRoutes):
    """Selective scans along routes that each have their own share of the channels (MHSSM, section 3.2).

    Raises `UsageError` where the routes do not divide the channels, or skip or repeat tokens.
    """

    def __init__(self, width: int, num_routes: int, d_state: int, dt_rank: int) -> None:
        if width % num_routes:
            raise UsageError(
                f"EAMamba gives each route a share of the channels: {width} channels cannot be shared by {num_routes} "
                "routes. Choose a scan of 1, 2, 4 or 8 routes, such as diagonal_cross, or heads: false."
            )
        super().__init__(width // num_routes, num_routes, d_state, dt_rank)

    def forward(self, u_BLD: Tensor, routes: Routes, merge: str = "sum", first: int = 0) -> Tensor:
        """Return what all heads make, side by side, (B, L, D); those of other walks than this one are 0."""
        if not routes.is_permutation:
            raise UsageError(
                "EAMamba needs routes that visit every token once, as each has channels of its own: these skip, repeat "
                "or pad. Choose for example cross or hilbert, or heads: false."
            )
        before, after = first * self.width, (first + routes.num_routes) * self.width
        y_BLD = self._walk(u_BLD[..., before:after], routes, first)
        return F.pad(y_BLD, (before, u_BLD.shape[2] - after)) if y_BLD.shape != u_BLD.shape else y_BLD

    def _walk(self, u_BLD: Tensor, routes: Routes, first: int) -> Tensor:
        visited_BSKE = _pick(u_BLD.unflatten(2, (routes.num_routes, self.width)), routes.index_KL)
        y_BKSE = self.run(visited_BSKE.transpose(1, 2), first)
        return _pick(y_BKSE.transpose(1, 2), routes.inverse_KT).flatten(2)


def _pick(x_BLKE: Tensor, index_KS: Tensor) -> Tensor:
    """Return (B, S, K, E): of head k the tokens `index_KS[k]`, or where it has a batch axis those of each picture."""
    num_heads = x_BLKE.shape[2]
    heads_K = torch.arange(num_heads, device=index_KS.device)
    row_S = (index_KS.transpose(-1, -2) * num_heads + heads_K).flatten(-2)
    x_BRE = x_BLKE.flatten(1, 2)
    if row_S.ndim == 1:
        return x_BRE.index_select(1, row_S).unflatten(1, (-1, num_heads))
    return x_BRE.gather(1, row_S[..., None].expand(-1, -1, x_BRE.shape[2])).unflatten(1, (-1, num_heads))


class SimpleGatedFFN(nn.Module):
    """Pointwise map, product of its two halves, pointwise map back: the simple gate of NAFNet (arXiv 2204.04676)."""

    def __init__(self, dim: int, expansion: float = 2.0, bias: bool = False) -> None:
        super().__init__()
        hidden = int(dim * expansion)
        if hidden % 2:
            raise UsageError(f"ffn_expansion={expansion} of {dim} channels must give two halves, such as 2")
        self.project_in = nn.Conv2d(dim, hidden, 1, bias=bias)
        self.project_out = nn.Conv2d(hidden // 2, dim, 1, bias=bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        one_BCHW, other_BCHW = self.project_in(x_BCHW).chunk(2, dim=1)
        return self.project_out(one_BCHW * other_BCHW)


class PointwiseFFN(nn.Module):
    """Pointwise map, GELU, pointwise map back."""

    def __init__(self, dim: int, expansion: float = 2.0, bias: bool = False) -> None:
        super().__init__()
        hidden = int(dim * expansion)
        self.project_in = nn.Conv2d(dim, hidden, 1, bias=bias)
        self.project_out = nn.Conv2d(hidden, dim, 1, bias=bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.project_out(F.gelu(self.project_in(x_BCHW)))


# ffn(dim, expansion, bias)
FEED_FORWARD: dict[str, Callable[[int, float, bool], nn.Module]] = {
    "simple": SimpleGatedFFN,
    "gdfn": GatedDepthwiseFFN,
    "ffn": PointwiseFFN,
}

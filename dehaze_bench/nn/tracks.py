"""Routes laid side by side, so that one convolution and one recurrence run along all of them at once.

Shape legend: B batch, T tokens, K routes, S steps of a route, D channels, E = K * D, J = S * K rows.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.positions import class_index
from dehaze_bench.scans import Grid, Routes, Scan


class Tracks:
    """Routes side by side: channels k * D to (k + 1) * D of step s belong to the token that route k visits then.

    What runs along a route (a convolution, say) needs its tokens in visiting order, so they are copied, once.
    """

    def __init__(self, routes: Routes) -> None:
        self.routes, self.num_routes = routes, routes.num_routes
        self.visits_T: Tensor | None = None
        if not routes.is_permutation and not routes.repeats:
            self.visits_T = (routes.inverse_KT >= 0).sum(-2)
        # Orders per picture and tokens that are visited twice take the general way, by way of `Routes`.
        self.general = routes.index_KL.ndim == 3 or routes.repeats
        if self.general:
            return
        token_J = routes.index_KL.T.flatten()
        row_KT = routes.inverse_KT * self.num_routes + torch.arange(self.num_routes, device=token_J.device)[:, None]
        self.token_J, self.row_J = token_J.clamp(min=0), row_KT.flatten().clamp(min=0)
        self.holds_J1 = None if routes.is_permutation else (token_J >= 0)[:, None]
        self.visited_KT1 = None if routes.is_permutation else (routes.inverse_KT >= 0)[..., None]

    def gather(self, x_BTD: Tensor) -> Tensor:
        """Return the tokens in visiting order, (B, S, E); padding steps are zero."""
        if self.general:
            return self.routes.gather(x_BTD).transpose(1, 2).flatten(2)
        x_BJD = x_BTD.index_select(1, self.token_J)
        if self.holds_J1 is not None:
            x_BJD = x_BJD * self.holds_J1.to(x_BJD.dtype)
        return x_BJD.unflatten(1, (-1, self.num_routes)).flatten(2)

    def scatter(self, y_BSE: Tensor) -> Tensor:
        """Return the steps at their tokens, (B, K, T, D); a token that a route skips gets zero."""
        y_BSKD = y_BSE.unflatten(2, (self.num_routes, -1))
        if self.general:
            return self.routes.scatter(y_BSKD.transpose(1, 2))
        y_BKTD = y_BSKD.flatten(1, 2).index_select(1, self.row_J).unflatten(1, (self.num_routes, -1))
        return y_BKTD if self.visited_KT1 is None else y_BKTD * self.visited_KT1.to(y_BKTD.dtype)


def lay_tracks(scan: Scan, x_BTD: Tensor, grid: Grid, class_token: str = "none", mirrored: bool = True) -> Tracks:
    """Return the tracks of a scan for tokens over `grid`, with a class token where `class_token` says, if at all.

    `mirrored` counts its place from the other end in a route that runs backwards, as if the sequence had been reversed
    with the token in it (Vim); otherwise it stands at the same step of every route (LocalMamba).
    """
    at = class_index(class_token, math.prod(grid))
    if scan.is_static:
        return _lay(scan.on(grid, x_BTD.device), at, mirrored)
    if at is not None:
        x_BTD = torch.cat([x_BTD[:, :at], x_BTD[:, at + 1 :]], dim=1)
    return _lay.__wrapped__(scan.through(x_BTD, grid), at, mirrored)


def check_walks(scan: Scan, name: str) -> Scan:
    """Return the scan; raises `UsageError` where it walks over more than the tokens themselves."""
    for walk in scan.walks:
        coarse = walk.scale if isinstance(walk.scale, tuple) else (walk.scale,)
        if walk.axis == "channel" or max(coarse) > 1:
            over = "channels" if walk.axis == "channel" else f"a grid of stride {walk.scale}"
            raise UsageError(
                f"Scan '{scan.name}' walks over {over}, which {name} cannot: choose a scan over tokens alone, such as "
                "bidirectional"
            )
    return scan


@lru_cache(maxsize=256)
def _lay(found: tuple[Routes, ...], class_at: int | None, mirrored: bool) -> Tracks:
    with torch.inference_mode(False):  # what is made while predicting may be used again while training
        routes = _join(found)
        return Tracks(routes if class_at is None else _admit(routes, class_at, mirrored))


def _join(found: tuple[Routes, ...]) -> Routes:
    """Return the routes of several walks over the same grid as one object; shorter ones are padded at the end."""
    if len(found) == 1:
        return found[0]
    lengths = [routes.index_KL.shape[-1] for routes in found]
    padded = [F.pad(r.index_KL, (0, max(lengths) - n), value=-1) for r, n in zip(found, lengths, strict=True)]
    batch = max((index.shape[:-2] for index in padded), key=len)
    return replace(
        found[0],
        index_KL=torch.cat([index.expand(*batch, -1, -1) for index in padded], dim=-2),
        inverse_KT=torch.cat([routes.inverse_KT.expand(*batch, -1, -1) for routes in found], dim=-2),
        repeats=any(routes.repeats for routes in found),
        pads=any(routes.pads for routes in found) or min(lengths) < max(lengths),
    )


def _admit(routes: Routes, at: int, mirrored: bool) -> Routes:
    """Return the routes over the tokens with one more, the class token, at index `at`."""
    index_KL, inverse_KT = routes.index_KL, routes.inverse_KT
    length = index_KL.shape[-1]
    steps_L = torch.arange(length + 1, device=index_KL.device)
    # Routes that skip tokens have it as far on as the others.
    place_K1 = torch.full_like(index_KL[..., :1], min(at, at * length // routes.num_tokens))
    if mirrored:  # a route runs backwards where it ends at an earlier token than it starts at
        place_K1 = torch.where(_first(index_KL) > _first(index_KL.flip(-1)), length - place_K1, place_K1)
    source_KL = (steps_L - (steps_L > place_K1).long()).clamp(max=length - 1)
    moved_KL = (index_KL + (index_KL >= at).long()).gather(-1, source_KL)
    inverse_KT = inverse_KT + (inverse_KT >= place_K1).long()
    return replace(
        routes,
        grid=(routes.num_tokens + 1,),
        index_KL=torch.where(steps_L == place_K1, at, moved_KL),
        inverse_KT=torch.cat([inverse_KT[..., :at], place_K1, inverse_KT[..., at:]], dim=-1),
        strides=(1,),
    )


def _first(index_KL: Tensor) -> Tensor:
    """Return the first token of each route, (K, 1)."""
    return index_KL.gather(-1, (index_KL >= 0).int().argmax(-1, keepdim=True))

"""The scanned layer: one mixer run along every route of a scan.

Shape legend: B batch, H and W grid (or T, H, W), L tokens, K routes, C model channels, D inner channels, F features of
a channel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.nn.merge import Merge
from dehaze_bench.nn.mixers.mixer import Mixer, State
from dehaze_bench.scans import Grid, Routes, Scan

CHANNEL_FEATURES = 4
# What a mixer remembers at the end of every route, one entry per walk of the scan, its batch axis being (B, K).
RouteStates = list[State]


class ScannedLayer(nn.Module):
    """Gather the tokens along each route, mix, scatter them back, merge the routes.

    `mixer(dim)` makes a mixer; one serves all routes (as in RSMamba, arXiv 2403.19654), so the number of parameters
    does not depend on how many there are and an ablation compares orders alone. Only what a scan merges by "gate",
    "concat" or "attention", or a walk over channels, adds its own. The merged tokens are normalised before they leave
    the mixer (as in VMamba's SS2D), so that a sum over four routes and a single route start at the same scale.

    Routes on a coarser grid read averages of the tokens and are enlarged linearly (MSVMamba, arXiv 2405.14174).
    """

    def __init__(self, dim: int, mixer: Callable[[int], Mixer], scan: Scan) -> None:
        super().__init__()
        self.mixer, self.scan = mixer(dim), scan
        self.merge = Merge(scan.merge, scan.num_routes, self.mixer.width)
        self.norm = nn.LayerNorm(self.mixer.width)
        over_channels = any(walk.axis == "channel" for walk in scan.walks)
        self.channels = ChannelScan(self.mixer.width, mixer) if over_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C), or (B, T, H, W, C), to the same shape."""
        grid, x_BLC = tuple(x.shape[1:-1]), x.flatten(1, -2)
        s_BLD, gate_BLD = self.mixer.enter(x_BLC)
        found = self.scan.through(x_BLC, grid)
        outputs = [self._walk(s_BLD, routes, grid) for routes in found]
        return self._leave(outputs, found, gate_BLD, grid)

    def forward_with_states(self, x: Tensor, states: RouteStates | None) -> tuple[Tensor, RouteStates]:
        """Map as `forward` does, each route starting from its state; also return the states at the ends of the routes.

        `states` are what a layer with the same scan and an equal mixer returned; None are empty ones. A walk over
        channels hands nothing on. Raises `UsageError` for a mixer that keeps no state.
        """
        grid, x_BLC = tuple(x.shape[1:-1]), x.flatten(1, -2)
        s_BLD, gate_BLD = self.mixer.enter(x_BLC)
        found = self.scan.through(x_BLC, grid)
        first = [None] * len(found) if states is None else states
        walked = [self._walk_from(state, s_BLD, routes, grid) for state, routes in zip(first, found, strict=True)]
        return self._leave([y for y, _ in walked], found, gate_BLD, grid), [state for _, state in walked]

    def _walk(self, s_BLD: Tensor, routes: Routes, grid: Grid) -> Tensor:
        """Return what the mixer makes along these routes, at the tokens of the full grid, (B, K, L, D)."""
        if self.mixer.indexed and routes.is_permutation and routes.index_KL.ndim == 2 and not routes.is_coarse:
            return torch.stack([self.mixer.mix(s_BLD, order_L) for order_L in routes.index_KL], dim=1)
        return _enlarge(run_routes(self.mixer, _shrink(s_BLD, routes, grid), routes), routes, grid)

    def _walk_from(self, state: State | None, s_BLD: Tensor, routes: Routes, grid: Grid) -> tuple[Tensor, State]:
        """Return what `_walk` does, from a state on, and the state at the end of every route."""
        visited_NLD = routes.gather(_shrink(s_BLD, routes, grid)).flatten(0, 1)
        mixed_NLD, state = self.mixer.mix_with_state(visited_NLD, state)
        y_BKLD = routes.scatter(mixed_NLD.unflatten(0, (s_BLD.shape[0], routes.num_routes)))
        return _enlarge(y_BKLD, routes, grid), state

    def _leave(self, outputs: list[Tensor], found: tuple[Routes, ...], gate_BLD: Tensor | None, grid: Grid) -> Tensor:
        """Merge what all walks made and map it back to the model's channels."""
        y_BKLD = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
        y_BLD = self.norm(self.merge(y_BKLD, count_visits(found)))
        if self.channels is not None:
            routes = self.scan.on(grid, y_BLD.device, channels=y_BLD.shape[-1])[-1]
            y_BLD = y_BLD + y_BLD * self.channels(y_BLD, routes)
        return self.mixer.leave(y_BLD, gate_BLD).unflatten(1, grid)


class ChannelScan(nn.Module):
    """A factor per channel from a mixer that runs over the channels instead of over space.

    The token means are a sequence of D steps, given F features by a linear map, mixed along every route over the
    channels, summed and mapped back (VmambaIR, arXiv 2403.11423, section 3.3: the channel part of its omni scan).
    """

    def __init__(self, dim: int, mixer: Callable[[int], Mixer]) -> None:
        super().__init__()
        self.spread = nn.Linear(1, CHANNEL_FEATURES)
        self.mixer = mixer(CHANNEL_FEATURES)
        self.join = nn.Linear(CHANNEL_FEATURES, 1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, y_BLD: Tensor, routes: Routes) -> Tensor:
        """Return the factors, (B, 1, D)."""
        x_BDF = self.spread(y_BLD.mean(1)[..., None])
        s_BDE, gate_BDE = self.mixer.enter(x_BDF)
        mixed_BDE = run_routes(self.mixer, s_BDE, routes).sum(1)
        out_BDF = self.mixer.leave(mixed_BDE, gate_BDE)
        return self.norm(self.join(out_BDF)[..., 0])[:, None]


def run_routes(mixer: Mixer, s_BLD: Tensor, routes: Routes) -> Tensor:
    """Gather, mix and scatter: return (B, K, L, D) at the tokens of the grid that is walked over."""
    mixed_NLD = mixer.mix(routes.gather(s_BLD).flatten(0, 1))
    return routes.scatter(mixed_NLD.unflatten(0, (s_BLD.shape[0], routes.num_routes)))


def count_visits(found: tuple[Routes, ...]) -> Tensor | None:
    """Return how many routes visit each token, or None where all do."""
    if all(routes.is_permutation or routes.is_coarse or routes.repeats for routes in found):
        return None
    counts = [routes.num_routes if routes.is_coarse else (routes.inverse_KT >= 0).sum(0) for routes in found]
    visits_T = sum(counts[1:], counts[0])
    assert isinstance(visits_T, Tensor)
    return visits_T


def _shrink(x_BLD: Tensor, routes: Routes, grid: Grid) -> Tensor:
    """Average blocks of tokens where the routes walk over a coarser grid; those at the border may be smaller."""
    if not routes.is_coarse:
        return x_BLD
    x_BDG = x_BLD.transpose(1, 2).unflatten(2, grid)
    pool = F.avg_pool2d if len(grid) == 2 else F.avg_pool3d
    blocks = tuple(min(stride, size) for stride, size in zip(routes.strides, grid, strict=True))
    return pool(x_BDG, blocks, blocks, ceil_mode=True, count_include_pad=False).flatten(2).transpose(1, 2)


def _enlarge(y_BKLD: Tensor, routes: Routes, grid: Grid) -> Tensor:
    """Return values at the tokens of the full grid where the routes walk over a coarser one."""
    if not routes.is_coarse:
        return y_BKLD
    y_NDG = y_BKLD.flatten(0, 1).transpose(1, 2).unflatten(2, routes.grid)
    mode = "bilinear" if len(grid) == 2 else "trilinear"
    out = F.interpolate(y_NDG, scale_factor=tuple(float(s) for s in routes.strides), mode=mode, align_corners=False)
    for axis, size in enumerate(grid, start=2):  # the last block of an odd grid is smaller
        out = out.narrow(axis, 0, size)
    return out.flatten(2).transpose(1, 2).unflatten(0, y_BKLD.shape[:2])

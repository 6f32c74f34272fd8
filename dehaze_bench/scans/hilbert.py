"""Hilbert curves generalised to any rectangle or box. Each function takes a grid and returns token ids (K, L).

A box of sides a, b, c is walked from its origin to the far end of side a. It is cut into two to five boxes that
follow each other along the curve until all are lines. Boxes of one shape share one curve, so a picture of 620 x 460
needs a few hundred curves and not one call per token.

Shape legend: H, W grid, K routes, L steps of a route.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dehaze_bench.errors import UsageError
from dehaze_bench.scans.grid import Grid, invert, token_ids

Sides = tuple[int, int, int]
Flags = tuple[bool, bool, bool]


class Part(NamedTuple):
    """A box inside a box: its origin, which sides of the outer box its sides lie along, and which run backwards."""

    origin: Sides
    along: Sides
    backwards: Flags
    size: Sides


def hilbert(grid: Grid, routes: int = 1, reverse: bool = False) -> np.ndarray:
    """The generalised Hilbert curve in the first `routes` of eight orientations; `reverse` adds the ways back.

    The orientations are ZigMa's (arXiv 2403.13802, hilbertN): as it is and transposed, then the same after one, two
    and three quarter turns. Successive tokens are neighbours on every rectangle.
    """
    ids_HW = token_ids(grid, "hilbert", axes=2)
    walks = _walks(grid, routes)
    views = [np.rot90(ids_HW.T if number % 2 else ids_HW, -(number // 2)) for number in range(routes)]
    ids = np.stack([view.reshape(-1)[walks[view.shape]] for view in views])
    return np.concatenate([ids, ids[:, ::-1]]) if reverse else ids


def hilbert_zigma(grid: Grid, routes: int = 8) -> np.ndarray:
    """ZigMa's Hilbert scan as its code has it: the table of ranks is used as the visiting order.

    This is the inverse permutation of walking the curve, so successive tokens are in general no neighbours.
    """
    token_ids(grid, "hilbert_zigma", axes=2)
    ranks = {shape: invert(walk_L[None], walk_L.size).reshape(shape) for shape, walk_L in _walks(grid, routes).items()}
    tables = [np.rot90(ranks[_shape(grid, number)], number // 2) for number in range(routes)]
    return np.stack([(table.T if number % 2 else table).reshape(-1) for number, table in enumerate(tables)])


def hilbert_3d(grid: Grid, routes: int = 2) -> np.ndarray:
    """The curve through a box (T, H, W), and through the box with its first two axes swapped (as in PointMamba).

    Successive tokens are neighbours in every box.
    """
    ids_THW = token_ids(grid, "hilbert_3d", axes=3)
    if routes not in (1, 2):
        raise UsageError(f"scan.order.routes of 'hilbert_3d' is 1 or 2, not {routes}")
    views = (ids_THW, ids_THW.transpose(1, 0, 2))[:routes]
    return np.stack([view.reshape(-1)[_walk(view.shape)] for view in views])


def _walks(grid: Grid, routes: int) -> dict[Grid, np.ndarray]:
    """Return the curves that the first `routes` orientations lay on the grid: one, or one more with sides swapped."""
    if not 1 <= routes <= 8:
        raise UsageError(f"scan.order.routes of 'hilbert' is 1 to 8, not {routes}")
    return {shape: _walk(shape) for shape in {_shape(grid, number) for number in range(routes)}}


def _shape(grid: Grid, number: int) -> Grid:
    """Return the sides of the curve before orientation `number` turns it."""
    return grid[::-1] if number % 4 in (1, 2) else grid


def _walk(shape: Grid) -> np.ndarray:
    """Return (L,): raster ids of a rectangle or box along the curve, which ends at the far end of its longest axis."""
    axes = sorted(range(len(shape)), key=lambda axis: -shape[axis])
    # As on a chessboard, a walk over neighbours cannot end at the far end of an odd side where another side is even.
    even = [axis for axis in axes if shape[axis] % 2 == 0]
    if even and even[0] != axes[0]:
        axes.remove(even[0])
        axes.insert(0, even[0])
    sizes = [shape[axis] for axis in axes] + [1] * (3 - len(axes))
    moves = _curve((sizes[0], sizes[1], sizes[2]), (False, False, False), {})
    out = np.zeros(math.prod(shape), dtype=np.int64)
    for axis, moves_L in zip(axes, moves, strict=False):
        out += moves_L * np.int64(math.prod(shape[axis + 1 :]))
    return out


def _curve(size: Sides, backwards: Flags, known: dict[tuple[Sides, Flags], np.ndarray]) -> np.ndarray:
    """Return (3, L): how far along each side of the box every step is.

    `backwards` says which sides run against their axis of the grid: it decides which half of an odd side is longer.
    """
    key = (size, backwards)
    if key not in known:
        out = np.zeros((3, math.prod(size)), dtype=np.int32)
        if out.shape[1] == max(size):
            out[int(np.argmax(size))] = np.arange(max(size))
            known[key] = out
            return out
        start = 0
        for part in _cut(size, backwards):
            stop = start + math.prod(part.size)
            if stop == start:
                continue
            turned = [backwards[side] != back for side, back in zip(part.along, part.backwards, strict=True)]
            inside = _curve(part.size, (turned[0], turned[1], turned[2]), known)
            for side, back, moves_L in zip(part.along, part.backwards, inside, strict=True):
                out[side, start:stop] = part.origin[side] + (-moves_L if back else moves_L)
            start = stop
        known[key] = out
    return known[key]


def _cut(size: Sides, backwards: Flags) -> list[Part]:
    """Return the boxes inside a box in visiting order; each starts beside the end of the one before.

    A curve without jumps exists only through boxes whose side a is even, or all of whose sides are odd: the cuts make
    such boxes out of such boxes.
    """
    a, b, c = size
    same, onward = (0, 1, 2), (False, False, False)
    if 2 * a > 3 * b and 2 * a > 3 * c:
        half = _half(a, backwards[0])
        return [Part((0, 0, 0), same, onward, (half, b, c)), Part((half, 0, 0), same, onward, (a - half, b, c))]
    if 3 * max(b, c) > 4 * min(b, c) or (b % 2 and c % 2):
        return _bend(size, backwards, 1 if b >= c else 2)
    up, across = (1, 2) if c % 2 == 0 else (2, 1)
    u, v = size[up], size[across]
    a2, u2, v2 = (_half(size[side], backwards[side]) for side in (0, up, across))
    return [
        Part((0, 0, 0), (up, across, 0), onward, (u2, v2, a2)),
        Part(_at(0, u2, 0, up), (across, 0, up), onward, (v, a2, u - u2)),
        Part(_at(0, u2 - 1, v - 1, up), (0, up, across), (False, True, True), (a, u2, v - v2)),
        Part(_at(a - 1, u2, v - 1, up), (across, 0, up), (True, True, False), (v, a - a2, u - u2)),
        Part(_at(a - 1, u2 - 1, 0, up), (up, across, 0), (True, False, True), (u2, v2, a - a2)),
    ]


def _bend(size: Sides, backwards: Flags, up: int) -> list[Part]:
    """Return three boxes: along side `up`, on along side a, back down; the third side is not cut."""
    third = 3 - up
    a, u, thick = size[0], size[up], size[third]
    a2, u2 = (a + backwards[0]) // 2, _half(u, backwards[up])
    return [
        Part((0, 0, 0), (up, third, 0), (False, False, False), (u2, thick, a2)),
        Part(_at(0, u2, 0, up), (0, up, third), (False, False, False), (a, u - u2, thick)),
        Part(_at(a - 1, u2 - 1, 0, up), (up, third, 0), (True, False, True), (u2, thick, a - a2)),
    ]


def _at(first: int, second: int, third: int, up: int) -> Sides:
    """Return a place inside a box whose second coordinate lies along side `up`."""
    return (first, second, third) if up == 1 else (first, third, second)


def _half(side: int, backwards: bool) -> int:
    """Return half of a side, one more where that makes it even."""
    half = (side + backwards) // 2
    return half + 1 if half % 2 == 1 and side > 2 else half

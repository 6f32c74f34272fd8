"""Continuous curves over a rectangle: snakes, zigzags, the spiral; and the Morton order.

Each function takes a grid and returns token ids (K, L). A curve is written once, for a matrix of ids; its other
routes walk over the same matrix flipped or transposed.

Shape legend: H, W grid, K routes, L steps of a route.
"""

from __future__ import annotations

import numpy as np

from dehaze_bench.errors import UsageError
from dehaze_bench.scans.grid import Grid, token_ids

# What a step of a route is called by PlainMamba; `START` also stands for a jump to a token that is no neighbour.
START, RIGHT, LEFT, UP, DOWN = range(5)


def continuous(grid: Grid) -> np.ndarray:
    """Row snake, its reverse, column snake, its reverse (PlainMamba, arXiv 2403.17695: continuous 2D scanning)."""
    ids_HW = token_ids(grid, "continuous", axes=2)
    rows, cols = _snake(ids_HW), _snake(ids_HW.T)
    return np.stack([rows, rows[::-1], cols, cols[::-1]])


def zigzag(grid: Grid, routes: int = 8) -> np.ndarray:
    """A row snake and a column snake from each corner: the first `routes` of eight (ZigMa, arXiv 2403.13802, zigzagN).

    The corners are, in this order, top left, top right, bottom left and bottom right.
    """
    ids_HW = token_ids(grid, "zigzag", axes=2)
    if not 1 <= routes <= 8:
        raise UsageError(f"scan.order.routes of 'zigzag' is 1 to 8, not {routes}")
    corners = (ids_HW, ids_HW[:, ::-1], ids_HW[::-1], ids_HW[::-1, ::-1])
    snakes = [_snake(turned) for corner in corners for turned in (corner, corner.T)]
    return np.stack(snakes[:routes])


def spiral(grid: Grid, reverse: bool = False) -> np.ndarray:
    """Ring by ring from the top left to the middle, clockwise; `reverse` adds the way back to the rim."""
    ids_HW = token_ids(grid, "spiral", axes=2)
    height, width = ids_HW.shape
    i_H1, j_1W = np.ogrid[:height, :width]
    ring = np.minimum(np.minimum(i_H1, height - 1 - i_H1), np.minimum(j_1W, width - 1 - j_1W))
    h, w = height - 2 * ring, width - 2 * ring  # of what is left at this ring
    i, j = i_H1 - ring, j_1W - ring
    bottom, left = 2 * w + h - 3 - j, 2 * (w + h) - 4 - i
    step = np.select([i == 0, j == w - 1, i == h - 1], [j, w - 1 + i, bottom], left)
    return _there_and_back(_place(ids_HW, height * width - h * w + step), reverse)


def morton(grid: Grid, reverse: bool = False) -> np.ndarray:
    """Z-order: by the interleaved bits of the coordinates, the last axis lowest; `reverse` adds the way back."""
    code = np.zeros((), dtype=np.int64)
    for axis, size in enumerate(token_ids(grid).shape):
        coordinate = np.arange(size)
        spread = np.zeros(size, dtype=np.int64)
        for bit in range(size.bit_length()):
            spread |= (coordinate >> bit & 1) << (bit * len(grid) + len(grid) - 1 - axis)
        code = code[..., None] | spread
    small = code.astype(np.int32) if code.max() < 2**31 else code
    return _there_and_back(np.argsort(small, axis=None), reverse)


def stripes(grid: Grid, width: int = 8, shift: int = 0) -> np.ndarray:
    """Nested S-shaped stripes (MaIR, arXiv 2412.20066): snakes inside stripes, down one stripe and up the next.

    Four routes: stripes of `width` columns from the top left and from the bottom right, then stripes of rows from
    both. With a `shift` the first stripe is that wide instead; the last has what is left. As published, a stripe
    starts at its left edge whichever side the one before it ended on, so a step between stripes of even length goes
    to a token `width` away; all other steps go to neighbours.
    """
    ids_HW = token_ids(grid, "stripes", axes=2)
    if width < 1 or shift < 0:
        raise UsageError(f"scan.order of 'stripes' needs width >= 1 and shift >= 0, not {width} and {shift}")
    turned = ids_HW[::-1, ::-1]
    return np.stack([_stripes(ids, width, shift) for ids in (ids_HW, turned, ids_HW.T, turned.T)])


def direction_labels(ids_KL: np.ndarray, grid: Grid) -> np.ndarray:
    """Return (K, L): the move by which each step was reached: 0 start, 1 right, 2 left, 3 up, 4 down.

    PlainMamba adds a learned vector per label to B (arXiv 2403.17695: direction-aware updating). A step to a token
    that is no neighbour starts anew: label 0, as for padding.
    """
    token_ids(grid, "direction_labels", axes=2)
    rows, cols = np.divmod(ids_KL, grid[1])
    down, right = np.diff(rows, axis=1), np.diff(cols, axis=1)
    moves = [(down == 0) & (right == 1), (down == 0) & (right == -1), (down == -1) & (right == 0)]
    moves.append((down == 1) & (right == 0))
    labels = np.zeros(ids_KL.shape, dtype=np.int64)
    labels[:, 1:] = np.select(moves, [RIGHT, LEFT, UP, DOWN], START)
    labels[:, 1:][(ids_KL[:, 1:] < 0) | (ids_KL[:, :-1] < 0)] = START
    return labels


def _snake(ids_HW: np.ndarray) -> np.ndarray:
    """Return (L,): along each row, every second one backwards."""
    out = ids_HW.copy()
    out[1::2] = ids_HW[1::2, ::-1]
    return out.reshape(-1)


def _stripes(ids_HW: np.ndarray, stripe: int, shift: int) -> np.ndarray:
    height, width = ids_HW.shape
    i_H1, j_1W = np.ogrid[:height, :width]
    lead = shift or stripe
    number = np.where(j_1W < lead, 0, 1 + (j_1W - lead) // stripe)
    left = np.where(number == 0, 0, lead + (number - 1) * stripe)
    right = np.minimum(lead + number * stripe, width)
    row = np.where(number % 2 == 0, i_H1, height - 1 - i_H1)
    col = np.where(row % 2 == 0, j_1W - left, right - 1 - j_1W)
    return _place(ids_HW, left * height + row * (right - left) + col)


def _place(ids_HW: np.ndarray, step_HW: np.ndarray) -> np.ndarray:
    """Return (L,): the ids in the order of their steps."""
    out = np.empty(ids_HW.size, dtype=np.int64)
    out[step_HW] = ids_HW
    return out


def _there_and_back(route_L: np.ndarray, reverse: bool) -> np.ndarray:
    return np.stack([route_L, route_L[::-1]] if reverse else [route_L])

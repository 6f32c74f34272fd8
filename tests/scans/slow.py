"""Slow twins: the orders walked token by token, as their definitions say."""

from __future__ import annotations

import itertools

Plane = tuple[int, int]


def snake(rows: list[list[int]]) -> list[int]:
    found = []
    for number, row in enumerate(rows):
        found += row if number % 2 == 0 else row[::-1]
    return found


def rows_of(grid: Plane) -> list[list[int]]:
    return [[i * grid[1] + j for j in range(grid[1])] for i in range(grid[0])]


def columns_of(grid: Plane) -> list[list[int]]:
    return [list(column) for column in zip(*rows_of(grid), strict=True)]


def spiral(grid: Plane) -> list[int]:
    """Go on until a visited token or the rim, then turn right."""
    height, width = grid
    i, j, down, right = 0, 0, 0, 1
    found = [0]
    seen = {0}
    while len(found) < height * width:
        if not (0 <= i + down < height and 0 <= j + right < width) or (i + down) * width + j + right in seen:
            down, right = right, -down
        i, j = i + down, j + right
        found.append(i * width + j)
        seen.add(found[-1])
    return found


def morton(grid: tuple[int, ...]) -> list[int]:
    def code(token: int) -> str:
        digits = []
        for size in reversed(grid):
            digits.insert(0, format(token % size, "020b"))
            token //= size
        return "".join("".join(bits) for bits in zip(*digits, strict=True))

    total = 1
    for size in grid:
        total *= size
    return sorted(range(total), key=code)


def diagonal(rows: list[list[int]], continuous: bool) -> list[int]:
    height, width = len(rows), len(rows[0])
    found = []
    for total in range(height + width - 1):
        line = [rows[i][total - i] for i in range(height) if 0 <= total - i < width]
        found += line[::-1] if continuous and total % 2 == 0 else line
    return found


def stripes(rows: list[list[int]], stripe: int, shift: int) -> list[int]:
    width = len(rows[0])
    edges = [0, *range(shift or stripe, width, stripe), width]
    found = []
    for number, (left, right) in enumerate(itertools.pairwise(edges)):
        part = [row[left:right] for row in rows]
        found += snake(part if number % 2 == 0 else part[::-1])
    return found


def windows(grid: Plane, size: int) -> list[int]:
    height, width = grid
    found = []
    for top in range(0, height, size):
        for left in range(0, width, size):
            for i in range(top, top + size):
                for j in range(left, left + size):
                    found.append(i * width + j if i < height and j < width else -1)
    return found


def atrous(grid: Plane, step: int) -> list[list[int]]:
    height, width = grid
    down, right = -(-height // step), -(-width // step)
    routes = []
    for left in range(step):
        for top in range(step):
            places = [(i, j) for i in range(down) for j in range(right)]
            if top % 2:
                places = [(i, j) for j in range(right) for i in range(down)]
            tokens = [(top + i * step, left + j * step) for i, j in places]
            routes.append([i * width + j if i < height and j < width else -1 for i, j in tokens])
    return routes


def hilbert(order: int) -> list[int]:
    """Hilbert's own curve on a square of 2**order, first step downwards."""
    if order == 0:
        return [0]
    half, side = 2 ** (order - 1), 2**order
    inner = [divmod(token, half) for token in hilbert(order - 1)]
    first = [(j, i) for i, j in inner]
    second = [(i + half, j) for i, j in inner]
    third = [(i + half, j + half) for i, j in inner]
    fourth = [(half - 1 - j, side - 1 - i) for i, j in inner]
    return [i * side + j for i, j in (*first, *second, *third, *fourth)]

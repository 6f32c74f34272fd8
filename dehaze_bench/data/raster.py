"""Paint a window of a dead-leaves scene: colours and exact depth, front to back, one compiled loop.

Painting front to back lets a pixel that is already covered skip all shading, so the cost follows the number
of visible pixels, not the overdraw. Every pixel depends on its position on the canvas only: a window equals
the same window cut from the full canvas.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from dehaze_bench.data.scenery import (
    BOX,
    C0,
    C1,
    CHECKER,
    CONTRAST,
    COS,
    CURVE,
    CX,
    CY,
    ELLIPSE,
    FREQUENCY,
    GRID,
    IA,
    IB,
    MIX,
    NUM_TONES,
    OPACITY,
    P_C0,
    P_C1,
    P_CONTRAST,
    P_E1,
    P_E2,
    P_FREQUENCY,
    P_MIX,
    P_PATTERN,
    P_Q,
    P_SKY,
    P_TEX,
    P_TEX_SCALE,
    PATTERN,
    PLAIN,
    Q0,
    QX,
    QY,
    SHADE_U,
    SHADE_V,
    SHAPE,
    SIN,
    SOFT,
    SQUIRCLE,
    STRIPES,
    TEX,
    TEX_SCALE,
    TEX_U,
    TEX_V,
    TEXTURE_SIZE,
    WOBBLE,
)

_WRAP = TEXTURE_SIZE - 1
_COVERED = 1 / 256  # less of the background than this is invisible in 8 bits


@numba.njit(cache=True, inline="always")
def _texture(field: np.ndarray, u: float, v: float) -> float:
    """Bilinear look-up in a periodic field."""
    u0, v0 = math.floor(u), math.floor(v)
    fu, fv = u - u0, v - v0
    i, j = int(v0) & _WRAP, int(u0) & _WRAP
    i1, j1 = (i + 1) & _WRAP, (j + 1) & _WRAP
    upper = field[i, j] + fu * (field[i, j1] - field[i, j])
    lower = field[i1, j] + fu * (field[i1, j1] - field[i1, j])
    return upper + fv * (lower - upper)


@numba.njit(cache=True)
def _band(s: float, duty: float, blur: float) -> float:
    """A stripe that covers `duty` of its period 1, smoothed over `blur`; its mean where not resolved."""
    if blur > 0.7:
        return duty
    distance = abs(s - math.floor(s) - 0.5)
    return min(1.0, max(0.0, (0.5 * duty - distance) / max(blur, 1e-6) + 0.5))


@numba.njit(cache=True)
def _pattern(kind: int, s: float, t: float, blur: float) -> float:
    """Share of the second colour at surface coordinates (s, t), in periods."""
    if kind == STRIPES:
        return _band(s, 0.4, blur)
    if kind == CHECKER:
        a, b = _band(s, 0.5, blur), _band(t, 0.5, blur)
        return a + b - 2 * a * b
    if kind == GRID:
        return max(_band(s, 0.12, blur), _band(t, 0.12, blur))
    return 0.0


@numba.njit(cache=True)
def paint(
    leaves: np.ndarray,
    planes: np.ndarray,
    light: np.ndarray,
    tone: np.ndarray,
    textures: np.ndarray,
    focal: float,
    canvas: tuple[int, int],
    top: int,
    left: int,
    colour: np.ndarray,
    depth: np.ndarray,
) -> None:
    """Fill `colour` (3, h, w) uint8 and `depth` (h, w) float32 metres for the window at (top, left)."""
    height, width = depth.shape
    y_first, x_first = top - 0.5 * canvas[0], left - 0.5 * canvas[1]
    linear = np.zeros((height, width, 3), np.float32)
    rest = np.ones((height, width), np.float32)  # share of the pixel that is not yet covered
    depth[:] = 0.0

    for n in range(leaves.shape[0]):
        leaf = leaves[n]
        a, b = 1.0 / leaf[IA], 1.0 / leaf[IB]
        kind, wobble, soft = int(leaf[SHAPE]), leaf[WOBBLE], leaf[SOFT]
        reach = (1.0 + 2.5 * wobble) * (1.0 + 0.5 / soft)
        cos, sin = leaf[COS], leaf[SIN]
        if kind == ELLIPSE:
            half_x, half_y = math.hypot(a * cos, b * sin) * reach, math.hypot(a * sin, b * cos) * reach
        else:
            half_x, half_y = (abs(a * cos) + abs(b * sin)) * reach, (abs(a * sin) + abs(b * cos)) * reach
        i_from = max(0, math.floor(leaf[CY] - half_y - y_first))
        i_to = min(height, math.ceil(leaf[CY] + half_y - y_first) + 1)
        j_from = max(0, math.floor(leaf[CX] - half_x - x_first))
        j_to = min(width, math.ceil(leaf[CX] + half_x - x_first) + 1)
        field = textures[int(leaf[TEX])]
        scale, pattern, frequency = leaf[TEX_SCALE], int(leaf[PATTERN]), leaf[FREQUENCY]
        shadow = leaf[OPACITY] < 0
        for i in range(i_from, i_to):
            dy = i + y_first - leaf[CY]
            for j in range(j_from, j_to):
                left_over = rest[i, j]
                if left_over < _COVERED:
                    continue
                dx = j + x_first - leaf[CX]
                pu, pv = dx * cos + dy * sin, dy * cos - dx * sin
                u, v = pu * leaf[IA], pv * leaf[IB]
                if kind == ELLIPSE:
                    r = math.sqrt(u * u + v * v)
                elif kind == BOX:
                    r = max(abs(u), abs(v))
                elif kind == SQUIRCLE:
                    r = math.sqrt(math.sqrt(u * u * u * u + v * v * v * v))
                else:
                    r = max(v, max(0.866 * u - 0.5 * v, -0.866 * u - 0.5 * v)) * 1.6
                if r > reach:
                    continue
                su, sv = pu * scale + leaf[TEX_U], pv * scale + leaf[TEX_V]
                if wobble > 0.0 and r > 0.3:
                    r *= 1.0 + wobble * _texture(textures[6], leaf[TEX_U] + 22.0 * u, leaf[TEX_V] + 22.0 * v)
                alpha = 0.5 + (1.0 - r) * soft
                if alpha <= 0.0:
                    continue
                alpha = min(alpha, 1.0)
                if shadow:
                    rest[i, j] = left_over * (1.0 + alpha * leaf[OPACITY])
                    continue
                noise = _texture(field, su, sv)
                share = 0.0
                if pattern != PLAIN:
                    share = _pattern(pattern, pu * frequency, pv * frequency, 1.2 * frequency)
                elif leaf[MIX] > 0.0:
                    share = min(1.0, max(0.0, leaf[MIX] * (0.5 + 0.8 * _texture(textures[6], sv * 0.37, su * 0.37))))
                shade = (1.0 + leaf[SHADE_U] * u + leaf[SHADE_V] * v - leaf[CURVE] * min(1.0, r * r)) * (
                    1.0 + leaf[CONTRAST] * noise
                )
                weight = left_over * alpha * max(shade, 0.04)
                for c in range(3):
                    linear[i, j, c] += weight * (leaf[C0 + c] + share * (leaf[C1 + c] - leaf[C0 + c]))
                rest[i, j] = left_over * (1.0 - alpha)
                if alpha >= 0.5 and depth[i, j] == 0.0:
                    inverse = leaf[Q0] + leaf[QX] * dx + leaf[QY] * dy
                    depth[i, j] = 1.0 / min(max(inverse, 0.7 * leaf[Q0]), 1.4 * leaf[Q0])

    for i in range(height):
        y = i + y_first
        for j in range(width):
            x = j + x_first
            if rest[i, j] >= _COVERED or depth[i, j] == 0.0:
                best, inverse = 0, -1e9
                for p in range(planes.shape[0]):
                    q = planes[p, P_Q] + planes[p, P_Q + 1] * x + planes[p, P_Q + 2] * y
                    if q > inverse:
                        best, inverse = p, q
                plane = planes[best]
                z = 1.0 / inverse
                wx, wy = x * z / focal, y * z / focal
                s = plane[P_E1] * wx + plane[P_E1 + 1] * wy + plane[P_E1 + 2] * z
                t = plane[P_E2] * wx + plane[P_E2 + 1] * wy + plane[P_E2 + 2] * z
                texels = plane[P_TEX_SCALE] * z / focal  # texels per pixel: fade what cannot be resolved
                noise = _texture(textures[int(plane[P_TEX])], s * plane[P_TEX_SCALE], t * plane[P_TEX_SCALE])
                noise /= max(1.0, texels)
                pattern = int(plane[P_PATTERN])
                if plane[P_SKY] > 0.0:
                    share = min(1.0, max(0.0, 0.5 + y / canvas[0] + plane[P_MIX] * noise))
                elif pattern != PLAIN:
                    frequency = plane[P_FREQUENCY]
                    share = _pattern(pattern, s * frequency, t * frequency, 1.2 * frequency * z / focal)
                else:
                    coarse = 0.2 * plane[P_TEX_SCALE]
                    share = plane[P_MIX] * (0.5 + 0.5 * _texture(textures[6], t * coarse, s * coarse))
                    share = min(1.0, max(0.0, share))
                weight = rest[i, j] * max(1.0 + plane[P_CONTRAST] * noise, 0.04)
                for c in range(3):
                    linear[i, j, c] += weight * (plane[P_C0 + c] + share * (plane[P_C1 + c] - plane[P_C0 + c]))
                if depth[i, j] == 0.0:
                    depth[i, j] = z
            rx, ry = x / canvas[1], y / canvas[0]
            sx, sy = rx - light[6], ry - light[7]
            gain = max(0.25, 1.0 + light[3] * rx + light[4] * ry) + light[5] / (1.0 + 14.0 * (sx * sx + sy * sy))
            for c in range(3):
                value = min(1.0, linear[i, j, c] * gain * light[c])
                level = tone[int(math.sqrt(value) * (NUM_TONES - 1))]
                colour[c, i, j] = np.uint8(level * 255.0 + 0.5)

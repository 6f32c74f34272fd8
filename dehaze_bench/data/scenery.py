"""The parameters of a dead-leaves scene: a room or a street, and the leaves that stand in it.

A scene is five to six background planes, a few hundred leaves and a light; `raster.py` paints any window of
it. All of it is drawn here from one random generator, a few vectorised calls per scene.

Dead leaves (Matheron 1968; Lee, Mumford and Huang, IJCV 2001): opaque shapes whose radii follow r^-3 occlude
each other, which gives the scale invariance and the 1/f^2 power spectrum of natural images. Under perspective
the inverse depth of any plane is affine in pixel coordinates, so exact depth costs three numbers per surface.
Lengths are metres, positions are pixels of the canvas measured from its centre, colours are linear
reflectances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Columns of a leaf: position, rotation, inverse radii, edge softness, outline, inverse depth, two colours,
# texture, pattern, shading.
(CX, CY, COS, SIN, IA, IB, SOFT, SHAPE, WOBBLE, OPACITY, Q0, QX, QY) = range(13)
C0, C1 = 13, 16  # three columns each
(MIX, TEX, TEX_SCALE, TEX_U, TEX_V, CONTRAST, PATTERN, FREQUENCY, SHADE_U, SHADE_V, CURVE) = range(19, 30)
LEAF_COLUMNS = 30
# Columns of a background plane: inverse depth, two axes of its surface, then as above.
P_Q, P_E1, P_E2, P_C0, P_C1 = 0, 3, 6, 9, 12
(P_MIX, P_TEX, P_TEX_SCALE, P_CONTRAST, P_PATTERN, P_FREQUENCY, P_SKY) = range(15, 22)
PLANE_COLUMNS = 22

ELLIPSE, BOX, SQUIRCLE, TRIANGLE = range(4)
PLAIN, STRIPES, CHECKER, GRID = range(4)
NUM_TEXTURES = 8
TEXTURE_SIZE = 256
NUM_TONES = 4096


@dataclass(frozen=True)
class Scene:
    """Everything `raster.paint` needs. Leaves are sorted front to back."""

    leaves: np.ndarray  # (N, LEAF_COLUMNS) float32
    planes: np.ndarray  # (P, PLANE_COLUMNS) float32
    light: np.ndarray  # (8,) float32: gain of R, G, B; slope in x, y; spot gain, x, y
    tone: np.ndarray  # (NUM_TONES,) float32: display value over the square root of the linear value
    focal: float  # pixels
    far: float  # metres: the deepest point of the background


def make_textures(seed: int) -> np.ndarray:
    """Return periodic fields (K, 256, 256) of zero mean, unit deviation and power f^-1.6 ... f^-3.2.

    The last quarter is folded (|x|), which gives veins and cracks.
    """
    rng = np.random.default_rng([seed, 0x7E47])
    frequency = np.fft.fftfreq(TEXTURE_SIZE)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    radius[0, 0] = 1.0
    fields = np.empty((NUM_TEXTURES, TEXTURE_SIZE, TEXTURE_SIZE), np.float32)
    for k, exponent in enumerate(np.linspace(0.8, 1.6, NUM_TEXTURES)):
        spectrum = np.fft.fft2(rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE))) / radius**exponent
        spectrum[0, 0] = 0
        field = np.fft.ifft2(spectrum).real
        if k >= NUM_TEXTURES - NUM_TEXTURES // 4:
            field = np.abs(field / field.std())
        fields[k] = np.clip((field - field.mean()) / field.std(), -2.5, 2.5)
    return fields


def make_scene(rng: np.random.Generator, outdoor: bool, height: int, width: int) -> Scene:
    """Draw one scene for a canvas of `height` x `width` pixels."""
    focal = width * rng.uniform(0.75, 1.4)
    palette = _colours(rng, int(rng.integers(4, 10)), outdoor)
    planes = _street(rng, palette, focal, width) if outdoor else _room(rng, palette, focal)
    leaves = _leaves(rng, palette, planes, height, width, outdoor)
    warmth, tint = rng.normal(0, 0.09), rng.normal(0, 0.03)
    exposure = np.clip(np.exp(rng.normal(np.log(0.2), 0.45)) / _meter(leaves, planes), 0.3, 4)
    sky = planes[:, P_SKY] > 0  # brighter than the street
    planes[sky, P_C0 : P_C1 + 3] *= np.exp(rng.normal(np.log(0.95), 0.35)) / exposure
    light = np.array(
        [
            exposure * (1 + warmth),
            exposure * (1 + tint),
            exposure * (1 - warmth),
            rng.normal(0, 0.25),
            rng.normal(-0.1, 0.25),
            rng.uniform(0, 0.9) * (rng.random() < (0.1 if outdoor else 0.5)),
            rng.uniform(-0.5, 0.5),
            rng.uniform(-0.5, 0.3),
        ],
        np.float32,
    )
    return Scene(leaves, planes, light, _tone(rng), float(focal), _deepest(planes, height, width))


def _deepest(planes: np.ndarray, height: int, width: int) -> float:
    """Return the largest depth of the background, on a grid of 33 x 33 pixels of the canvas."""
    y, x = np.meshgrid(np.linspace(-0.5, 0.5, 33) * height, np.linspace(-0.5, 0.5, 33) * width, indexing="ij")
    inverse = planes[:, P_Q, None, None] + planes[:, P_Q + 1, None, None] * x + planes[:, P_Q + 2, None, None] * y
    return float(1 / inverse.max(axis=0).min())


def _meter(leaves: np.ndarray, planes: np.ndarray) -> float:
    """Estimate the mean linear luminance of a scene without its sky, to expose for it."""
    area = np.minimum(1 / (leaves[:, IA] * leaves[:, IB]), 40_000) * (leaves[:, OPACITY] > 0)
    of_leaves = np.average(np.minimum(leaves[:, C0 : C0 + 3].mean(1), 1), weights=area)
    of_planes = planes[planes[:, P_SKY] == 0, P_C0 : P_C0 + 3].mean()
    return float(0.5 * of_leaves + 0.5 * of_planes)


def _colours(rng: np.random.Generator, num: int, outdoor: bool) -> np.ndarray:
    """Draw linear reflectances (num, 3): mostly dull, some whitish, some nearly black, few vivid."""
    if outdoor:
        hue = np.where(rng.random(num) < 0.7, rng.normal(0.2, 0.09, num), rng.random(num)) % 1.0
    else:
        hue = np.where(rng.random(num) < 0.5, rng.normal(0.09, 0.05, num), rng.random(num)) % 1.0
    saturation = rng.beta(1.1, 1.9, num)
    value = np.exp(rng.normal(np.log(0.27), 0.95, num))
    kind = rng.random(num)
    white, black, vivid = kind < 0.18, (kind > 0.8) & (kind < 0.94), kind > 0.94
    saturation[white] *= 0.15
    value[white] = rng.uniform(0.55, 0.95, num)[white]
    value[black] = rng.uniform(0.004, 0.05, num)[black]
    saturation[vivid] = rng.uniform(0.7, 1.0, num)[vivid]
    value[vivid] = rng.uniform(0.2, 0.8, num)[vivid]
    value = np.clip(value, 0.004, 0.95)
    wheel = np.abs((hue[:, None] * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    return value[:, None] * (1 - saturation[:, None] * (1 - np.clip(wheel, 0, 1)))


def _tone(rng: np.random.Generator) -> np.ndarray:
    """Draw a display curve: gamma near 1/2.2 with a random contrast and black level."""
    linear = np.linspace(0, 1, NUM_TONES) ** 2
    display = linear ** (1 / rng.uniform(1.9, 2.4))
    contrast = rng.uniform(0.0, 1.0)
    display = (1 - contrast) * display + contrast * display * display * (3 - 2 * display)
    black = max(0.0, rng.normal(0, 0.02))
    return (black + (1 - black) * display).astype(np.float32)


def _surface(
    rng: np.random.Generator,
    normal: np.ndarray,
    distance: float,
    axes: np.ndarray,
    palette: np.ndarray,
    focal: float,
) -> np.ndarray:
    """Make the row of a plane normal . P = distance; `axes` (2, 3) are its surface directions."""
    row = np.zeros(PLANE_COLUMNS)
    row[P_Q : P_Q + 3] = normal[2] / distance, normal[0] / (focal * distance), normal[1] / (focal * distance)
    row[P_E1 : P_E1 + 3], row[P_E2 : P_E2 + 3] = axes
    colour = palette[rng.integers(len(palette))]
    row[P_C0 : P_C0 + 3] = colour
    row[P_C1 : P_C1 + 3] = np.clip(colour * np.exp(rng.normal(0, 0.45)), 0.004, 0.95)
    row[P_MIX] = rng.uniform(0, 0.6)
    row[P_TEX] = rng.integers(NUM_TEXTURES)
    row[P_TEX_SCALE] = np.exp(rng.uniform(np.log(8), np.log(120)))
    row[P_CONTRAST] = rng.uniform(0.02, 0.4)
    row[P_PATTERN] = rng.choice(4, p=[0.5, 0.2, 0.1, 0.2])
    row[P_FREQUENCY] = np.exp(rng.uniform(np.log(0.4), np.log(4)))
    return row


def _turn(yaw: float, pitch: float) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    about_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    c, s = np.cos(pitch), np.sin(pitch)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ about_y


def _room(rng: np.random.Generator, palette: np.ndarray, focal: float) -> np.ndarray:
    """A box seen from inside, with the camera in it: back wall at 2.5 to 9 m."""
    painted = rng.uniform(0.35, 0.9, (3, 1)) * rng.uniform(0.85, 1.0, (3, 3))
    palette = np.concatenate([palette, painted])
    turn = _turn(rng.normal(0, 0.35), rng.normal(0, 0.12))
    x, y, z = np.eye(3)
    depth = np.exp(rng.uniform(np.log(2.5), np.log(9)))
    walls = [
        (z, depth, x, y),
        (x, rng.uniform(1.0, 4.0), z, y),
        (-x, rng.uniform(1.0, 4.0), z, y),
        (y, rng.uniform(0.9, 1.6), x, z),
        (-y, rng.uniform(0.9, 1.8), x, z),
    ]
    rows = [_surface(rng, turn @ n, d, np.stack([turn @ a, turn @ b]), palette, focal) for n, d, a, b in walls]
    return np.asarray(rows, np.float32)


def _street(rng: np.random.Generator, palette: np.ndarray, focal: float, width: int) -> np.ndarray:
    """A ground, a sky at the far end and, half of the time, one or two walls along the view."""
    far = np.exp(rng.uniform(np.log(6), np.log(22)))
    turn = _turn(rng.normal(0, 0.25), rng.normal(0.05, 0.15))
    x, y, z = np.eye(3)
    ground = _surface(rng, turn @ y, rng.uniform(1.2, 2.5), np.stack([turn @ x, turn @ z]), palette, focal)
    sky = _surface(rng, z, far, np.stack([x, y]), palette, focal)
    overcast = rng.random()
    zenith = np.array([0.18, 0.36, 0.75]) * (1 - overcast) + np.array([0.75, 0.77, 0.8]) * overcast
    horizon = np.array([0.6, 0.72, 0.85]) * (1 - overcast) + np.array([0.85, 0.86, 0.87]) * overcast
    sky[P_C0 : P_C0 + 3], sky[P_C1 : P_C1 + 3] = zenith, horizon
    sky[P_MIX], sky[P_TEX], sky[P_SKY] = rng.uniform(0, 0.5), 5, 1
    sky[P_CONTRAST], sky[P_PATTERN] = rng.uniform(0, 0.12), PLAIN
    sky[P_TEX_SCALE] = rng.uniform(10, 60) / far * focal / width
    rows = [ground, sky]
    for side in (1.0, -1.0):
        if rng.random() < 0.35:
            axes = np.stack([turn @ z, turn @ y])
            rows.append(_surface(rng, turn @ (side * x), rng.uniform(2, 8), axes, palette, focal))
    return np.asarray(rows, np.float32)


def _leaves(
    rng: np.random.Generator, palette: np.ndarray, planes: np.ndarray, height: int, width: int, outdoor: bool
) -> np.ndarray:
    """Draw the leaves: single objects with radii r^-3, bunches of small ones, and soft shadows."""
    unit = width / 640
    single = _place(rng, int(rng.integers(250, 1300)), 5.5 * unit, 220 * unit, height, width)
    if outdoor:
        _stand(rng, single, planes, height)
    num_bunches = int(rng.integers(0, 16 if outdoor else 6))
    bunches = [single]
    hosts = rng.integers(0, len(single), num_bunches)
    for host in hosts:
        bunch = _place(rng, int(rng.integers(15, 90)), 2.5 * unit, 14 * unit, height, width)
        spread = rng.uniform(12, 70) * unit
        bunch[:, CX] = single[host, CX] + rng.normal(0, spread, len(bunch))
        bunch[:, CY] = single[host, CY] + rng.normal(0, spread * rng.uniform(0.5, 1.2), len(bunch))
        bunches.append(bunch)
    leaves = np.concatenate(bunches)
    num = len(leaves)
    owner = np.repeat(np.arange(len(bunches)), [len(b) for b in bunches])

    colour = palette[rng.integers(0, len(palette), num)]
    fresh = rng.random(num) < 0.35
    colour = np.where(fresh[:, None], _colours(rng, num, outdoor), colour)
    of_bunch = _colours(rng, len(bunches), outdoor)[owner]
    colour = np.where((owner > 0)[:, None], of_bunch, colour) * np.exp(rng.normal(0, 0.25, (num, 1)))
    lamp = (rng.random(num) < 0.01) & (owner == 0)
    colour[lamp] = rng.uniform(1.2, 3.0, (num, 1))[lamp] * np.array([1.0, 0.97, 0.9])
    leaves[:, C0 : C0 + 3] = np.clip(colour, 0.003, 3)
    related = colour * np.exp(rng.normal(0, 0.6, (num, 1)))
    second = np.where(rng.random((num, 1)) < 0.6, related, _colours(rng, num, outdoor))
    leaves[:, C1 : C1 + 3] = np.clip(second, 0.003, 1)
    leaves[lamp, C1 : C1 + 3] = leaves[lamp, C0 : C0 + 3]

    # Depth: just in front of the background at the leaf's foot, or anywhere before it.
    foot = leaves[:, CY] + 0.9 / leaves[:, IB]
    inverse = planes[:, P_Q, None] + planes[:, P_Q + 1, None] * leaves[:, CX] + planes[:, P_Q + 2, None] * foot
    behind = np.max(inverse, axis=0)
    nearer = np.where(rng.random(num) < 0.3, rng.uniform(0.3, 1.0, num), rng.uniform(0.8, 1.0, num))
    depth = nearer / behind
    first = np.cumsum([0] + [len(b) for b in bunches[:-1]])
    for k in range(1, len(bunches)):
        part = slice(first[k], first[k] + len(bunches[k]))
        depth[part] = depth[hosts[k - 1]] * rng.uniform(0.9, 1.0, len(bunches[k]))
    leaves[:, Q0] = 1 / np.maximum(depth, 0.35)
    leaves[:, QX] = leaves[:, Q0] * leaves[:, IA] * rng.normal(0, 0.08, num)
    leaves[:, QY] = leaves[:, Q0] * leaves[:, IB] * rng.normal(0, 0.08, num)

    shadows = leaves[: len(single)][rng.random(len(single)) < 0.35].copy()
    shadows[:, CX] += 0.3 / shadows[:, IA] * rng.normal(0.5, 0.3)
    shadows[:, CY] += 0.3 / shadows[:, IB] * rng.uniform(0.2, 1.0)
    shadows[:, OPACITY] = -rng.uniform(0.2, 0.7, len(shadows))
    shadows[:, SOFT] = rng.uniform(1.5, 5, len(shadows))
    shadows[:, Q0] *= 0.999
    both = np.concatenate([leaves, shadows])
    return both[np.argsort(-both[:, Q0], kind="stable")].astype(np.float32)


def _stand(rng: np.random.Generator, leaves: np.ndarray, planes: np.ndarray, height: int) -> None:
    """Put most leaves of a street on its ground, smaller and denser towards the horizon."""
    ground, far = planes[0], 1 / planes[1, P_Q]
    horizon = (1 / far - ground[P_Q] - ground[P_Q + 1] * leaves[:, CX]) / max(float(ground[P_Q + 2]), 1e-6)
    below = np.maximum(0.55 * height - horizon, 20)
    standing = rng.random(len(leaves)) < 0.88
    share = rng.random(len(leaves)) ** rng.uniform(1.2, 3)
    shrink = np.where(standing, 1.1 / (0.35 + share), 1.0)
    for column in (IA, IB, FREQUENCY):
        leaves[:, column] *= shrink
    leaves[:, SOFT] /= shrink
    leaves[:, CY] = np.where(standing, horizon + share * below - 0.9 / leaves[:, IB], leaves[:, CY])


def _place(rng: np.random.Generator, num: int, smallest: float, largest: float, height: int, width: int) -> np.ndarray:
    """Draw rows with position, outline, texture and shading; radii by inversion of the r^-3 density."""
    rows = np.zeros((num, LEAF_COLUMNS))
    radius = 1 / np.sqrt(1 / smallest**2 - rng.random(num) * (1 / smallest**2 - 1 / largest**2))
    aspect = np.exp(rng.normal(0, 0.45, num))
    a, b = radius * np.sqrt(aspect), radius / np.sqrt(aspect)
    upright = rng.random(num) < 0.55
    angle = np.where(upright, rng.normal(0, 0.05, num), rng.uniform(0, np.pi, num))
    rows[:, CX] = rng.uniform(-0.6, 0.6, num) * width
    rows[:, CY] = rng.uniform(-0.6, 0.6, num) * height
    rows[:, COS], rows[:, SIN] = np.cos(angle), np.sin(angle)
    rows[:, IA], rows[:, IB] = 1 / a, 1 / b
    rows[:, SOFT] = np.minimum(a, b) / rng.uniform(0.9, 2.2, num)
    rows[:, SHAPE] = np.where(
        upright, rng.choice(4, num, p=[0.2, 0.57, 0.2, 0.03]), rng.choice(4, num, p=[0.5, 0.24, 0.2, 0.06])
    )
    organic = rng.random(num) < np.where(rows[:, SHAPE] == BOX, 0.1, 0.6)
    rows[:, WOBBLE] = organic * rng.uniform(0.03, 0.25, num)
    rows[:, OPACITY] = 1
    rows[:, MIX] = rng.uniform(0, 1.0, num) * (rng.random(num) < 0.5)
    rows[:, TEX] = rng.integers(0, NUM_TEXTURES, num)
    rows[:, TEX_SCALE] = np.exp(rng.uniform(np.log(0.2), np.log(1.2), num))
    rows[:, TEX_U], rows[:, TEX_V] = rng.uniform(0, TEXTURE_SIZE, (2, num))
    rows[:, CONTRAST] = rng.beta(1.0, 3.5, num) * 0.7
    rows[:, PATTERN] = rng.choice(4, num, p=[0.76, 0.12, 0.05, 0.07])
    rows[:, FREQUENCY] = np.exp(rng.uniform(np.log(0.02), np.log(0.2), num))
    rows[:, SHADE_U], rows[:, SHADE_V] = rng.normal(0, 0.22, (2, num))
    rows[:, CURVE] = rng.uniform(0, 0.7, num) * (rows[:, SHAPE] != BOX)
    return rows

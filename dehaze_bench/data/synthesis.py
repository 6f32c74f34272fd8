"""Recipes of synthetic haze: which beta and A they draw, over which distance, and what else they do to a picture.

* `its`: RESIDE indoor (Li et al., TIP 2019). Ten times per picture A in U(0.7, 1) and beta in U(0.6, 1.8), over
  depth divided by its maximum.
* `ots`: RESIDE outdoor. All 35 pairs of five A and seven beta; beta is per metre.
* `ridcp`: RIDCP (Wu et al., CVPR 2023). Beta in U(0.3, 1.5) over relative depth stretched to [0, 2], A in
  U(0.25, 1) with up to 0.025 of colour shift, and, each for half of the pictures, a darker illumination (a power of
  1.5 to 3), noise of one of three kinds, and JPEG of quality 30 to 95. Noise comes before the haze, JPEG after it.
* `uneven`: the ranges of `its`, with a density that drifts over the picture between nothing and twice its mean. No
  published data set is made so; the drift is our own.

What is drawn is rounded to five decimals, so that a name says exactly what was used. Everything drawn is a pure
function of the generator handed in. Shapes: C colour, H and W picture.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from dehaze_bench.data.haze import add_haze, round_to_8bit, transmit
from dehaze_bench.errors import UsageError, nearest

_KEY = 0x4A2E  # keeps these streams apart from those of the sampler and of dead leaves
_OCTAVES = (4, 7, 13)  # control points per side of the drifting density, coarse to fine
Window = tuple[int, int, int, int]  # top, left, height, width


@dataclass(frozen=True)
class Span:
    """Any value from `low` to `high`, each equally likely."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        return min(max(round(float(rng.uniform(self.low, self.high)), 5), self.low), self.high)


@dataclass(frozen=True)
class Levels:
    """One of a few values."""

    values: tuple[float, ...]

    def draw(self, rng: np.random.Generator) -> float:
        return self.values[int(rng.integers(len(self.values)))]


@dataclass(frozen=True)
class Recipe:
    """What is drawn for a picture.

    distance: "max" (depth over its maximum, so in [0, 1]), "span" (relative depth stretched to [0, 2]) or "metres".
    copies: hazy pictures per clear one; of a recipe with levels, all their combinations.
    tint: the largest deviation of a colour of the airlight from grey.
    uneven: how much the density drifts, from 0 (not at all) to 1 (between nothing and twice its mean).
    """

    name: str
    distance: str
    beta: Span | Levels
    airlight: Span | Levels
    copies: int
    tint: float = 0.0
    uneven: Span | None = None
    degraded: bool = False

    @property
    def is_grid(self) -> bool:
        return isinstance(self.beta, Levels) and isinstance(self.airlight, Levels)


@dataclass(frozen=True)
class Haze:
    """The haze of one picture: all that was drawn, but not the noise itself."""

    beta: float
    grey: float
    airlight: tuple[float, float, float]
    uneven: float = 0.0
    gamma: float = 1.0
    noise: str = "none"
    sigma: float = 0.0
    quality: int | None = None
    density: tuple[np.ndarray, ...] = field(default=(), compare=False, repr=False)
    root_CC: np.ndarray | None = field(default=None, compare=False, repr=False)  # square root of the noise's covariance


RECIPES = {
    "its": Recipe("its", "max", Span(0.6, 1.8), Span(0.7, 1.0), copies=10),
    "ots": Recipe(
        "ots",
        "metres",
        Levels((0.04, 0.06, 0.08, 0.1, 0.12, 0.16, 0.2)),
        Levels((0.8, 0.85, 0.9, 0.95, 1.0)),
        copies=35,
    ),
    "ridcp": Recipe("ridcp", "span", Span(0.3, 1.5), Span(0.25, 1.0), copies=1, tint=0.025, degraded=True),
    "uneven": Recipe("uneven", "max", Span(0.6, 1.8), Span(0.7, 1.0), copies=10, uneven=Span(0.4, 1.0)),
}


def choose_recipe(name: str, beta: Sequence[float] | None = None, airlight: Sequence[float] | None = None) -> Recipe:
    """Return a recipe, with other ranges (or, of `ots`, other levels) where given.

    Raises `UsageError` for a name or for values that cannot be.
    """
    if name not in RECIPES:
        raise UsageError(f"recipe={name} is not known. {nearest(name, RECIPES)}")
    recipe = RECIPES[name]
    if beta is not None:
        recipe = replace(recipe, beta=_replace(recipe, "beta", recipe.beta, beta, float("inf")))
    if airlight is not None:
        recipe = replace(recipe, airlight=_replace(recipe, "airlight", recipe.airlight, airlight, 1.0))
    if recipe.is_grid:
        assert isinstance(recipe.beta, Levels) and isinstance(recipe.airlight, Levels)
        recipe = replace(recipe, copies=len(recipe.beta.values) * len(recipe.airlight.values))
    return recipe


def generator(seed: int, index: int, copy: int) -> np.random.Generator:
    """Return the generator of hazy picture `copy` of scene `index`; haze first, noise after it."""
    return np.random.default_rng([seed, index, copy, _KEY])


def draw_haze(recipe: Recipe, rng: np.random.Generator) -> Haze:
    """Draw the haze of one picture."""
    beta, grey = recipe.beta.draw(rng), recipe.airlight.draw(rng)
    return _finish(recipe, beta, grey, rng)


def haze_of_copy(recipe: Recipe, copy: int, rng: np.random.Generator) -> Haze:
    """Return the haze of hazy picture `copy`: of a grid its combination (A outermost), else drawn."""
    if not (isinstance(recipe.beta, Levels) and isinstance(recipe.airlight, Levels)):
        return draw_haze(recipe, rng)
    outer, inner = divmod(copy, len(recipe.beta.values))
    return _finish(recipe, recipe.beta.values[inner], recipe.airlight.values[outer], rng)


def find_transmission(distance_HW: np.ndarray, haze: Haze, size: tuple[int, int], window: Window) -> np.ndarray:
    """Return t (H, W) of the `window` of a picture of `size` (height, width) that `distance_HW` covers."""
    return transmit(thicken(distance_HW, haze, size, window), haze.beta)


def thicken(distance_HW: np.ndarray, haze: Haze, size: tuple[int, int], window: Window) -> np.ndarray:
    """Return the distance (H, W) times the density relative to its mean, where that drifts over the picture."""
    return distance_HW * _find_density(haze, size, window) if haze.density else distance_HW


def make_hazy(
    clear_CHW: np.ndarray,
    distance_HW: np.ndarray,
    haze: Haze,
    rng: np.random.Generator,
    size: tuple[int, int] | None = None,
    window: Window | None = None,
) -> np.ndarray:
    """Return the hazy picture, float32 (C, H, W) in [0, 1] at 8-bit levels.

    Args:
        clear_CHW: the clear picture or a window of it.
        distance_HW: of the same pixels, in the unit of the recipe.
        haze: what was drawn for the picture.
        rng: gives the noise.
        size: (height, width) of the whole picture, where a window of it is handed in.
        window: which one.
    """
    height, width = distance_HW.shape
    t_HW = find_transmission(distance_HW, haze, size or (height, width), window or (0, 0, height, width))
    if haze.gamma != 1:
        clear_CHW = clear_CHW ** np.float32(haze.gamma)
    if haze.noise != "none":
        clear_CHW = np.clip(clear_CHW + _draw_noise(haze, height, width, rng), 0, 1)
    hazy_CHW = round_to_8bit(add_haze(clear_CHW, t_HW, haze.airlight))
    return hazy_CHW if haze.quality is None else compress(hazy_CHW, haze.quality)


def compress(image_CHW: np.ndarray, quality: int) -> np.ndarray:
    """Return what JPEG of this quality leaves of a picture, float32 (C, H, W) in [0, 1]."""
    memory = io.BytesIO()
    pixels = np.rint(image_CHW.transpose(1, 2, 0) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(memory, "JPEG", quality=quality)
    with Image.open(memory) as stored:
        back = np.asarray(stored, np.uint8)
    return np.ascontiguousarray(back.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)


def _finish(recipe: Recipe, beta: float, grey: float, rng: np.random.Generator) -> Haze:
    """Draw the rest: colour, drift and degradation."""
    colours = [grey] * 3
    if recipe.tint:
        colours = [round(grey + float(shift), 5) for shift in rng.uniform(-recipe.tint, recipe.tint, 3)]
    haze = Haze(beta, grey, (colours[0], colours[1], colours[2]))
    if recipe.uneven is not None:
        amount = recipe.uneven.draw(rng)
        grids = tuple(rng.uniform(-1, 1, (num, num)).astype(np.float32) for num in _OCTAVES)
        haze = replace(haze, uneven=amount, density=grids)
    return _degrade(haze, rng) if recipe.degraded else haze


def _degrade(haze: Haze, rng: np.random.Generator) -> Haze:
    """Draw illumination, noise and JPEG as RIDCP does."""
    if rng.random() < 0.5:
        haze = replace(haze, gamma=round(float(rng.uniform(1.5, 3.0)), 5))
    if rng.random() < 0.5:
        sigma, which = int(rng.integers(2, 26)) / 255, rng.random()
        if which > 0.6:
            haze = replace(haze, noise="colour", sigma=sigma)
        elif which < 0.4:
            haze = replace(haze, noise="grey", sigma=sigma)
        else:
            haze = replace(haze, noise="correlated", sigma=25 / 255, root_CC=_draw_root(rng))
    if rng.random() < 0.5:
        haze = replace(haze, quality=int(rng.integers(30, 96)))
    return haze


def _draw_root(rng: np.random.Generator) -> np.ndarray:
    """Return the symmetric square root of |U' D U|, U orthogonal from a random matrix and D diagonal in U(0, 1)."""
    powers, basis = rng.random(3), np.linalg.svd(rng.random((3, 3)))[0]
    values, vectors = np.linalg.eigh(np.abs(basis.T @ np.diag(powers) @ basis))
    return ((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T).astype(np.float32)


def _draw_noise(haze: Haze, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    channels = 1 if haze.noise == "grey" else 3
    noise_CHW = rng.standard_normal((channels, height, width), np.float32) * np.float32(haze.sigma)
    return noise_CHW if haze.root_CC is None else np.einsum("ij,jhw->ihw", haze.root_CC, noise_CHW)


def _find_density(haze: Haze, size: tuple[int, int], window: Window) -> np.ndarray:
    """Return the density (H, W) in [0, 2] relative to its mean: a sum of smooth random surfaces, squashed."""
    top, left, height, width = window
    total_HW = np.zeros((height, width), np.float32)
    for octave, grid in enumerate(haze.density):
        rows = _blend(np.arange(top, top + height) / max(size[0] - 1, 1), len(grid))
        columns = _blend(np.arange(left, left + width) / max(size[1] - 1, 1), len(grid))
        total_HW += (rows @ grid @ columns.T) * np.float32(0.5**octave)
    return 1 + np.float32(haze.uneven) * np.tanh(np.float32(1.5) * total_HW)


def _blend(place: np.ndarray, num: int) -> np.ndarray:
    """Return the weights (pixels, num) of `num` control points spread over [0, 1], eased so that slopes meet."""
    scaled = place * (num - 1)
    left = np.minimum(scaled.astype(np.int64), num - 2)
    share = scaled - left
    share = share * share * (3 - 2 * share)
    weights = np.zeros((len(place), num), np.float32)
    pixels = np.arange(len(place))
    weights[pixels, left], weights[pixels, left + 1] = 1 - share, share
    return weights


def _replace(recipe: Recipe, key: str, old: Span | Levels, values: Sequence[float], ceiling: float) -> Span | Levels:
    given = tuple(float(value) for value in values)
    spans = isinstance(old, Span)
    good = bool(given) and all(0 <= value <= ceiling for value in given)
    good = good and (len(given) == 2 and given[0] <= given[1] if spans else len(set(given)) == len(given))
    if not good:
        wanted = "[low, high] with 0 <= low <= high" if spans else "a list of different levels of at least 0"
        raise UsageError(
            f"{key}={list(values)} does not suit recipe {recipe.name}. Expected {wanted}"
            + (", none above 1." if ceiling == 1.0 else ".")
        )
    return Span(given[0], given[1]) if spans else Levels(given)

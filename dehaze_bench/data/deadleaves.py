"""Training scenes made on the fly: occluding textured leaves with exact depth, under haze as in RESIDE.

A scene depends on (seed, index) only; the item's generator chooses the window and the haze. Nothing is
downloaded or stored, so a clone without data can train. What the scenes are made of: `scenery.py`; how they
are painted: `raster.py`.

RESIDE (Li et al., TIP 2019): indoor A in U(0.7, 1) and beta in U(0.6, 1.8) over depth normalised by its
maximum; outdoor A in 0.8 ... 1 and beta in 0.04 ... 0.2 per metre. Both pictures are rounded to 8 bits, as
files on disk are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from dehaze_bench.data.augmentation import place_crop
from dehaze_bench.data.haze import add_haze, round_to_8bit, transmit
from dehaze_bench.data.pairs import Sample
from dehaze_bench.data.scenery import Scene, make_scene, make_textures
from dehaze_bench.errors import UsageError, nearest

_KINDS = ("indoor", "outdoor", "mixed")
_SCENE_KEY = 0x5CE2E  # keeps scene streams apart from those of the sampler


class DeadLeaves:
    """A training set of synthetic scenes; `sample` is a pure function of all arguments.

    Args:
        seed: chooses the scenes, independent of the training seed.
        scenes: their number, the length of the data set.
        canvas: (height, width) of a scene in pixels; crops are windows of it.
        haze: "indoor" (rooms), "outdoor" (streets with a sky) or "mixed" (half of each).
        indoor_beta, outdoor_beta: ranges; indoor per scene depth, outdoor per metre.
        indoor_airlight, outdoor_airlight: ranges of the grey airlight.
        airlight_tint: largest deviation of a colour channel from the grey airlight; 0 as in RESIDE.
        cache_scenes: so many painted canvases are kept in memory (2 MB each at 480 x 640); changes speed,
            never values.
    """

    def __init__(
        self,
        seed: int = 0,
        scenes: int = 10_000,
        canvas: Sequence[int] = (480, 640),
        haze: str = "mixed",
        indoor_beta: Sequence[float] = (0.6, 1.8),
        indoor_airlight: Sequence[float] = (0.7, 1.0),
        outdoor_beta: Sequence[float] = (0.04, 0.2),
        outdoor_airlight: Sequence[float] = (0.8, 1.0),
        airlight_tint: float = 0.0,
        cache_scenes: int = 0,
    ) -> None:
        if haze not in _KINDS:
            raise UsageError(f"dataset.haze={haze} is not known. {nearest(haze, _KINDS)}")
        if scenes < 1 or seed < 0 or min(canvas) < 64:
            raise UsageError(
                "dead leaves need scenes >= 1, seed >= 0 and a canvas of at least 64 x 64; "
                f"change dataset.scenes={scenes}, dataset.seed={seed} or dataset.canvas={list(canvas)}."
            )
        self.seed = seed
        self.scenes = scenes
        self.canvas = (int(canvas[0]), int(canvas[1]))
        self.haze = haze
        self.beta = {False: _range("indoor_beta", indoor_beta), True: _range("outdoor_beta", outdoor_beta)}
        self.airlight = {
            False: _range("indoor_airlight", indoor_airlight),
            True: _range("outdoor_airlight", outdoor_airlight),
        }
        self.airlight_tint = airlight_tint
        self.cache_scenes = cache_scenes
        self._textures: np.ndarray | None = None
        self._painted: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def __len__(self) -> int:
        return self.scenes

    def sample(self, index: int, size: int, rng: np.random.Generator, edge_decay: float = 0.0) -> Sample:
        """Return a window of `size` x `size` pixels of scene `index` with haze of random beta and A."""
        height, width = self.canvas
        if size > min(height, width):
            raise UsageError(
                f"a crop of {size} x {size} does not fit the {height} x {width} canvas of dead leaves. "
                f"Use a crop of at most {min(height, width)}, "
                f"or set dataset.canvas=[{max(size, height)},{max(size, width)}]."
            )
        scene, outdoor = self.scene(index)
        top, left = place_crop(self.canvas, (size, size), rng, edge_decay)
        clear, depth = self._window(index, scene, top, left, size)
        beta, airlight = rng.uniform(*self.beta[outdoor]), rng.uniform(*self.airlight[outdoor])
        tint = rng.uniform(-self.airlight_tint, self.airlight_tint, 3)
        unit = 1.0 if outdoor else scene.far
        hazy = add_haze(clear, transmit(depth, beta / unit), np.clip(airlight + tint, 0, 1))
        kind = "street" if outdoor else "room"
        return Sample(f"{kind}_{index}_{airlight:.3f}_{beta:.3f}_{top}_{left}", round_to_8bit(hazy), clear)

    def scene(self, index: int) -> tuple[Scene, bool]:
        """Return the parameters of scene `index` and whether it is outdoors."""
        if not 0 <= index < self.scenes:
            raise IndexError(f"scene {index} of {self.scenes}")
        rng = np.random.default_rng([self.seed, index, _SCENE_KEY])
        outdoor = bool(rng.random() < 0.5) if self.haze == "mixed" else self.haze == "outdoor"
        return make_scene(rng, outdoor, *self.canvas), outdoor

    def paint(self, scene: Scene, top: int, left: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return uint8 colour (3, height, width) and metres (height, width) of a window of the canvas."""
        from dehaze_bench.data import raster  # Numba: half a second to import, and only needed here

        if self._textures is None:
            self._textures = make_textures(self.seed)
        colour = np.empty((3, height, width), np.uint8)
        depth = np.empty((height, width), np.float32)
        raster.paint(
            scene.leaves,
            scene.planes,
            scene.light,
            scene.tone,
            self._textures,
            scene.focal,
            self.canvas,
            top,
            left,
            colour,
            depth,
        )
        return colour, depth

    def _window(self, index: int, scene: Scene, top: int, left: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        if not self.cache_scenes:
            colour, depth = self.paint(scene, top, left, size, size)
        else:
            if index not in self._painted:
                self._painted[index] = self.paint(scene, 0, 0, *self.canvas)
            self._painted.move_to_end(index)
            while len(self._painted) > self.cache_scenes:
                self._painted.popitem(last=False)
            window = np.s_[..., top : top + size, left : left + size]
            colour, depth = self._painted[index][0][window], self._painted[index][1][window]
        return colour.astype(np.float32) / np.float32(255), depth


def _range(name: str, values: Sequence[float]) -> tuple[float, float]:
    low, high = float(values[0]), float(values[-1])
    ceiling = 1.0 if name.endswith("airlight") else float("inf")
    if len(values) != 2 or not 0 <= low <= high <= ceiling:
        raise UsageError(
            f"dataset.{name}={list(values)} is not a range. Expected [low, high] with 0 <= low <= high"
            + (" <= 1." if ceiling == 1.0 else ".")
        )
    return low, high

"""Haze made while training: clear pictures with depth from two folders, under new haze in every step."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dehaze_bench.data.augmentation import place_crop
from dehaze_bench.data.haze import Veil
from dehaze_bench.data.pairs import Sample, decoder
from dehaze_bench.data.synthesis import Haze, choose_recipe, draw_haze, make_hazy, thicken
from dehaze_bench.data.synthesis_depth import DepthRule, find_scenes
from dehaze_bench.data.synthesis_folders import read_scene
from dehaze_bench.errors import UsageError, nearest

HAZE_ON = ("workers", "device")
Picture = tuple[np.ndarray, np.ndarray]  # clear (3, H, W) in [0, 1], distance (H, W)
_BLOCK = 16  # pixels of a JPEG block with halved chroma


class HazeOnDepth:
    """A training set of random crops under random haze; `sample` is a pure function of all arguments.

    Args:
        name: of the data set.
        root: where relative folders are looked for.
        clear, depth: folders of clear pictures and of depth under equal names.
        recipe: "its", "ots" (its levels, not what lies between), "ridcp" or "uneven".
        beta, airlight: other ranges [low, high], of "ots" other levels.
        depth_kind, depth_scale, depth_far, depth_holes: what the numbers of depth mean, as in `DepthRule`.
        margin: pixels cut from each side before anything else; 10 for NYU2's 640x480.
        cache_scenes: so many decoded scenes are kept in memory (5 MB each at 640x480); changes speed, never values.
        haze_on: "workers" make the hazy pictures; or they send clear crops and distance, and the "device" that trains
            adds the haze to whole batches. What is drawn is the same, the pictures up to rounding. Pictures with
            noise or JPEG, which only the recipe ridcp has, are made by the workers all the same.

    Distance is related to the whole picture, density drifts over the whole picture, and JPEG blocks lie as they do in
    the whole picture. Raises `UsageError` when built for missing folders and files, and when read for a damaged one.
    """

    def __init__(
        self,
        name: str,
        root: str,
        clear: str,
        depth: str,
        recipe: str = "its",
        beta: Sequence[float] | None = None,
        airlight: Sequence[float] | None = None,
        depth_kind: str = "depth",
        depth_scale: float | None = None,
        depth_far: float | None = None,
        depth_holes: str = "error",
        margin: int = 0,
        cache_scenes: int = 0,
        haze_on: str = "workers",
    ) -> None:
        if haze_on not in HAZE_ON:
            raise UsageError(f"dataset.haze_on={haze_on} is not known. {nearest(haze_on, HAZE_ON)}")
        if margin < 0:
            raise UsageError(f"dataset.margin={margin} is too small: at least 0.")
        self.name = name
        self.decoder = decoder()
        self.recipe = choose_recipe(recipe, beta, airlight)
        self.rule = DepthRule(depth_kind, depth_scale, depth_far, depth_holes)
        self.margin = margin
        self.cache_scenes = cache_scenes
        folders = [Path(root).expanduser() / Path(folder).expanduser() for folder in (clear, depth)]
        try:
            self.scenes = find_scenes(*folders)
            read_scene(self.scenes[0], self.rule, self.recipe.distance, margin)
        except UsageError as error:
            raise UsageError(
                f"{name}: {error} (dataset.clear and dataset.depth name the folders, under paths.data unless absolute; "
                "depth.x is dataset.depth_x here)"
            ) from error
        self.layout = f"clear {folders[0]}, depth {folders[1]}, {len(self.scenes)} scenes, haze of recipe {recipe}"
        self.draw: Callable[..., Sample] | None = self._draw if haze_on == "device" else None
        self._kept: OrderedDict[int, Picture] = OrderedDict()

    def __len__(self) -> int:
        return len(self.scenes)

    def sample(self, index: int, size: int, rng: np.random.Generator, edge_decay: float = 0.0) -> Sample:
        """Return a random `size` x `size` crop under random haze; UsageError if the picture is smaller."""
        picture = self._read(index)
        place = self._place(index, picture, size, rng, edge_decay)
        return self._finish(index, picture, place, size, draw_haze(self.recipe, rng), rng)

    def _draw(self, index: int, size: int, rng: np.random.Generator, edge_decay: float = 0.0) -> Sample:
        """Return the crop of `sample` in uint8 levels, its haze as a veil unless it takes what the device has not."""
        picture = self._read(index)
        place = self._place(index, picture, size, rng, edge_decay)
        haze = draw_haze(self.recipe, rng)
        if haze.noise != "none" or haze.quality is not None:
            made = self._finish(index, picture, place, size, haze, rng)
            return Sample(made.name, _to_levels(made.hazy), _to_levels(made.clear))
        (top, left), (clear, distance) = place, picture
        window = np.s_[..., top : top + size, left : left + size]
        levels = _to_levels(clear[window])
        thick = thicken(distance[window], haze, (distance.shape[0], distance.shape[1]), (top, left, size, size))
        return Sample(self._name(index, place, haze), levels, levels, Veil(thick, haze.beta, haze.airlight, haze.gamma))

    def _place(
        self, index: int, picture: Picture, size: int, rng: np.random.Generator, edge_decay: float
    ) -> tuple[int, int]:
        height, width = picture[1].shape
        if size > min(height, width):
            raise UsageError(
                f"{self.scenes[index].clear}: {width}x{height} pixels are left, expected at least {size}x{size}. "
                f"Use a crop of at most {min(height, width)}, or take this picture out of the training set."
            )
        return place_crop((height, width), (size, size), rng, edge_decay)

    def _finish(
        self, index: int, picture: Picture, place: tuple[int, int], size: int, haze: Haze, rng: np.random.Generator
    ) -> Sample:
        (top, left), (clear, distance) = place, picture
        height, width = distance.shape
        # A window that begins where a JPEG block does, so that networks cannot learn the crop from the blocks.
        above, before = (top % _BLOCK, left % _BLOCK) if haze.quality is not None else (0, 0)
        window = np.s_[..., top - above : top + size, left - before : left + size]
        where = (top - above, left - before, size + above, size + before)
        hazy = make_hazy(clear[window], distance[window], haze, rng, (height, width), where)
        return Sample(
            self._name(index, place, haze),
            np.ascontiguousarray(hazy[:, above:, before:]),
            np.ascontiguousarray(clear[:, top : top + size, left : left + size]),
        )

    def _name(self, index: int, place: tuple[int, int], haze: Haze) -> str:
        return f"{self.scenes[index].name}_{haze.grey:.3f}_{haze.beta:.3f}_{place[0]}_{place[1]}"

    def _read(self, index: int) -> Picture:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        found = read_scene(self.scenes[index], self.rule, self.recipe.distance, self.margin)
        if self.cache_scenes:
            self._kept[index] = found
            while len(self._kept) > self.cache_scenes:
                self._kept.popitem(last=False)
        return found


def _to_levels(picture: np.ndarray) -> np.ndarray:
    """Turn float32 at 8-bit levels into these, exactly."""
    return np.rint(picture * np.float32(255)).astype(np.uint8)

"""Haze made while training: clear pictures with depth from two folders, under new haze in every step."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dehaze_bench.data.pairs import Sample, decoder
from dehaze_bench.data.synthesis import choose_recipe, draw_haze, make_hazy
from dehaze_bench.data.synthesis_depth import DepthRule, find_scenes
from dehaze_bench.data.synthesis_folders import read_scene
from dehaze_bench.errors import UsageError

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
    ) -> None:
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
        self._kept: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.scenes)

    def sample(self, index: int, size: int, rng: np.random.Generator) -> Sample:
        """Return a random `size` x `size` crop under random haze; UsageError if the picture is smaller."""
        scene = self.scenes[index]
        clear, distance = self._read(index)
        height, width = distance.shape
        if size > min(height, width):
            raise UsageError(
                f"{scene.clear}: {width}x{height} pixels are left, expected at least {size}x{size}. "
                f"Use a crop of at most {min(height, width)}, or take this picture out of the training set."
            )
        top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
        haze = draw_haze(self.recipe, rng)
        # A window that begins where a JPEG block does, so that networks cannot learn the crop from the blocks.
        above, before = (top % _BLOCK, left % _BLOCK) if haze.quality is not None else (0, 0)
        window = np.s_[..., top - above : top + size, left - before : left + size]
        place = (top - above, left - before, size + above, size + before)
        hazy = make_hazy(clear[window], distance[window], haze, rng, (height, width), place)
        return Sample(
            f"{scene.name}_{haze.grey:.3f}_{haze.beta:.3f}_{top}_{left}",
            np.ascontiguousarray(hazy[:, above:, before:]),
            np.ascontiguousarray(clear[:, top : top + size, left : left + size]),
        )

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        found = read_scene(self.scenes[index], self.rule, self.recipe.distance, self.margin)
        if self.cache_scenes:
            self._kept[index] = found
            while len(self._kept) > self.cache_scenes:
                self._kept.popitem(last=False)
        return found

"""Clips that need no data: a camera pans over scenes of dead leaves, or over the photographs inside scikit-image.

Shape legend: T frames, C colour, H and W size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dehaze_bench.data.augmentation import place_crop
from dehaze_bench.data.clips import TestClip, check_frames
from dehaze_bench.data.deadleaves import DeadLeaves
from dehaze_bench.data.haze import add_haze, round_to_8bit, transmit
from dehaze_bench.data.pairs import Sample
from dehaze_bench.data.photos import Photos
from dehaze_bench.errors import UsageError


class DeadLeavesClips:
    """Clips of a camera that pans over a scene of dead leaves, whose haze stays with the scene; no data is needed.

    A window moves by the same step from frame to frame, up to `speed` pixels down and across. Beta and airlight are
    drawn once per clip. The scenes are those of `DeadLeaves` with the same arguments.
    """

    def __init__(
        self,
        frames: int = 5,
        speed: float = 4.0,
        seed: int = 0,
        scenes: int = 10_000,
        canvas: Sequence[int] = (480, 640),
        haze: str = "mixed",
    ) -> None:
        check_frames("dataset", frames)
        if speed < 0:
            raise UsageError(f"dataset.speed={speed} is negative: give the most pixels per frame, for example 4.")
        self.frames, self.speed = frames, speed
        self._scenes = DeadLeaves(seed, scenes, canvas, haze)

    def __len__(self) -> int:
        return len(self._scenes)

    def sample(self, index: int, size: int, rng: np.random.Generator, edge_decay: float = 0.0) -> Sample:
        """Return a clip of `size` x `size` pixels, (T, 3, size, size); UsageError where its path leaves the canvas."""
        reach = int(np.ceil(self.speed * (self.frames - 1)))
        height, width = self._scenes.canvas
        if size + reach > min(height, width):
            raise UsageError(
                f"{self.frames} frames of {size} x {size} that move by up to {self.speed:g} pixels do not fit the "
                f"{height} x {width} canvas: use a crop of at most {max(0, min(height, width) - reach)}, fewer "
                f"dataset.frames, less dataset.speed, or dataset.canvas=[{max(height, size + reach)},"
                f"{max(width, size + reach)}]."
            )
        scene, outdoor = self._scenes.scene(index)
        path_T2 = np.rint(np.arange(self.frames)[:, None] * rng.uniform(-self.speed, self.speed, 2)).astype(int)
        path_T2 -= path_T2.min(axis=0)
        extent = size + path_T2.max(axis=0)
        top, left = place_crop((height, width), (int(extent[0]), int(extent[1])), rng, edge_decay)
        colour, depth = self._scenes.paint(scene, top, left, int(extent[0]), int(extent[1]))
        clear = colour.astype(np.float32) / np.float32(255)
        beta, airlight = rng.uniform(*self._scenes.beta[outdoor]), rng.uniform(*self._scenes.airlight[outdoor])
        hazy = round_to_8bit(add_haze(clear, transmit(depth, beta / (1.0 if outdoor else scene.far)), airlight))
        windows = [np.s_[:, y : y + size, x : x + size] for y, x in path_T2]
        name = f"{'street' if outdoor else 'room'}_{index}_{airlight:.3f}_{beta:.3f}_{top}_{left}+{self.frames - 1}"
        hazy_TCHW, clear_TCHW = (np.stack([image[window] for window in windows]) for image in (hazy, clear))
        return Sample(name, hazy_TCHW, clear_TCHW)


class PhotosClips:
    """A test set of videos made of the pairs of `photos`: over each moves a window, by a fixed step.

    Args:
        frames: of each video, all seen at once.
        window: (height, width) of a frame.
        step: pixels down and across from frame to frame; every second video moves the other way across.
        cache_dir: as of `Photos`.
    """

    name = "photos_clips"

    def __init__(
        self,
        frames: int = 8,
        window: Sequence[int] = (192, 256),
        step: Sequence[int] = (3, 8),
        cache_dir: str | None = None,
    ) -> None:
        check_frames("testset", frames)
        self.frames, self.window, self.step = frames, (int(window[0]), int(window[1])), (int(step[0]), int(step[1]))
        if len(window) != 2 or len(step) != 2 or min(self.window) < 1 or min(self.step) < 0:
            raise UsageError(
                f"testset.window={list(window)} and testset.step={list(step)} are two numbers each: pixels down and "
                "across, of a window at least 1, of a step at least 0."
            )
        self._photos = Photos(cache_dir)
        self.decoder = self._photos.decoder

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> TestClip:
        """Return one video; UsageError for a window whose path leaves the picture."""
        pair = self._photos[index]
        sides = pair.hazy.shape[-2:]
        spare = [
            side - part - step * (self.frames - 1)
            for side, part, step in zip(sides, self.window, self.step, strict=True)
        ]
        if min(spare) < 0:
            raise UsageError(
                f"photos_clips: {pair.name} is {sides[1]}x{sides[0]}, too small for {self.frames} frames of "
                f"{self.window[1]}x{self.window[0]} that move by {list(self.step)}: reduce window, step or frames."
            )
        (y0, x0), (down, across) = (room // 2 for room in spare), self.step
        places = [(y0 + down * t, x0 + across * t) for t in range(self.frames)]
        if index % 2:
            places = [(y, sides[1] - self.window[1] - x) for y, x in places]
        windows = [np.s_[:, y : y + self.window[0], x : x + self.window[1]] for y, x in places]
        names = [f"{pair.name}/{t:02}" for t in range(self.frames)]
        assert pair.clear is not None
        hazy, clear = (torch.stack([image[window] for window in windows]) for image in (pair.hazy, pair.clear))
        return TestClip(pair.name, names, hazy, clear)

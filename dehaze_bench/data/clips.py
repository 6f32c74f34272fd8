"""Clips of consecutive frames of videos in folders (REVIDE, HazeWorld); those that need no data: `clips_made`.

A training clip is T frames under one crop and, in the loader, one symmetry; it is a pure function of the data set, the
index and the generator that (seed, t, i) makes. A test video is read window by window, so that a long one at full size
does not have to fit into memory.

Shape legend: T frames, C colour, H and W size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import torch

from dehaze_bench.data.folders import Pairs
from dehaze_bench.data.known import CLEAR_FOLDERS, HAZY_FOLDERS
from dehaze_bench.data.layouts import FolderCrops, FolderPairs
from dehaze_bench.data.pairs import Sample
from dehaze_bench.errors import UsageError


@dataclass(frozen=True)
class TestClip:
    """Consecutive frames of a test video: float32 (T, 3, H, W) in [0, 1]; `clear` is None without truth."""

    __test__ = False  # pytest must not collect it

    name: str
    names: list[str]
    hazy: torch.Tensor
    clear: torch.Tensor | None


@dataclass(frozen=True)
class TestVideo:
    """A test video: the frames `numbers` of `source` in windows of equal length, as nearly as can be."""

    __test__ = False

    name: str
    source: FolderPairs
    numbers: range
    frames: int

    def clips(self) -> Iterator[TestClip]:
        """Yield its windows in order, which hold every frame once; UsageError where frames differ in size."""
        sizes = [self.source.size(i) for i in self.numbers]
        if len(set(sizes)) > 1:
            found = " and ".join(f"{width}x{height}" for height, width in sorted(set(sizes)))
            raise UsageError(f"{self.source.name}: the frames of video '{self.name}' have several sizes: {found}.")
        for window in cut_evenly(len(self.numbers), self.frames):
            pairs = [self.source[i] for i in self.numbers[window]]
            truths = [pair.clear for pair in pairs if pair.clear is not None]
            hazy_TCHW = torch.stack([pair.hazy for pair in pairs])
            yield TestClip(self.name, [pair.name for pair in pairs], hazy_TCHW, torch.stack(truths) if truths else None)


def cut_evenly(total: int, most: int) -> list[slice]:
    """Return as few windows as hold `total` frames with at most `most` each, of sizes that differ by one at most."""
    num = -(-total // most)
    edges = [round(total * k / num) for k in range(num + 1)]
    return [slice(first, last) for first, last in pairwise(edges)]


class ClipPairs:
    """A test set of videos in folders; `frames` are seen at once, the other arguments are those of `FolderPairs`.

    Its name is that of the set with `_clips`, since single frames under the same protocol make the same rows but no
    temporal error. A network for pictures restores frame by frame. Raises UsageError as `FolderPairs` does.
    """

    def __init__(
        self,
        name: str,
        root: str,
        folders: Sequence[str] = (".",),
        hazy: Sequence[str] | str = HAZY_FOLDERS,
        clear: Sequence[str] | str | None = CLEAR_FOLDERS,
        match: str = "auto",
        frames: int = 5,
    ) -> None:
        check_frames("testset", frames)
        self.name = f"{name}_clips"
        self.frames = frames
        self._pictures = FolderPairs(name, root, folders, hazy, clear, match)
        self.decoder = self._pictures.decoder
        self._videos = find_videos(self._pictures.pairs)

    @property
    def layout(self) -> str:
        """Where the frames were found and how they were paired."""
        return f"{self._pictures.layout}; {len(self._videos)} videos"

    @property
    def pairs(self) -> Pairs:
        """The pairs of frames that were found."""
        return self._pictures.pairs

    @property
    def has_truth(self) -> bool:
        """Whether there are clear frames to compare with."""
        return self._pictures.has_truth

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, index: int) -> TestVideo:
        name, numbers = self._videos[index]
        return TestVideo(name, self._pictures, numbers, self.frames)


class ClipCrops:
    """A training set of clips of `frames` consecutive frames under one random crop; the rest as in `FolderCrops`.

    Every frame that has enough after it begins a clip. Videos that are too short are left out. Raises UsageError where
    none is long enough.
    """

    def __init__(
        self,
        name: str,
        root: str,
        folders: Sequence[str] = (".",),
        hazy: Sequence[str] | str = HAZY_FOLDERS,
        clear: Sequence[str] | str = CLEAR_FOLDERS,
        match: str = "auto",
        frames: int = 5,
    ) -> None:
        check_frames("dataset", frames)
        self.name = f"{name}_clips"
        self.frames = frames
        self._pictures = FolderCrops(name, root, folders, hazy, clear, match)
        self.decoder = self._pictures.decoder
        videos = find_videos(self._pictures.pairs)
        self._starts = [i for _, numbers in videos for i in numbers[: max(0, len(numbers) - frames + 1)]]
        if not self._starts:
            longest = max(len(numbers) for _, numbers in videos)
            raise UsageError(
                f"{name}: none of {len(videos)} videos has {frames} frames, the longest has {longest}. "
                f"Use dataset.frames={longest} or fewer."
            )
        short = sum(len(numbers) < frames for _, numbers in videos)
        left = f", {short} shorter than {frames} frames left out" if short else ""
        self._remark = f"; {len(videos)} videos{left}, {len(self._starts)} clips"

    @property
    def layout(self) -> str:
        """Where the frames were found and how they were paired."""
        return self._pictures.layout + self._remark

    @property
    def pairs(self) -> Pairs:
        """The pairs of frames that were found."""
        return self._pictures.pairs

    @property
    def scene_names(self) -> list[str]:
        """The video of each clip."""
        scenes = self.pairs.scenes
        return [scenes[first] for first in self._starts]

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def reads_rows(self) -> bool:
        """As of `FolderCrops`."""
        return self._pictures.reads_rows

    def sample(self, index: int, size: int, rng: np.random.Generator, edge_decay: float = 0.0) -> Sample:
        """Return `frames` consecutive frames under one random crop, (T, 3, size, size); UsageError as for pictures."""
        first = self._starts[index]
        crops = self._pictures.crops(range(first, first + self.frames), size, rng, edge_decay)
        return _join(f"{crops[0].name}+{self.frames - 1}", crops)


def find_videos(pairs: Pairs) -> list[tuple[str, range]]:
    """Return each video with the places of its frames among the pairs: what stands before the last slash names it.

    Raises UsageError where pictures lie in no folder of a video.
    """
    alone = [name for name in pairs.names if "/" not in name]
    if alone:
        raise UsageError(
            f"Clips need one folder of frames per video, but {alone[0]} lies in none ({pairs.layout}). Use the test or "
            "training set of single frames."
        )
    videos, start = [], 0
    for video, group in groupby(pairs.names, key=lambda name: name.rpartition("/")[0]):
        num = len(list(group))
        videos.append((video, range(start, start + num)))
        start += num
    return videos


def _join(name: str, crops: Sequence[Sample]) -> Sample:
    return Sample(name, np.stack([crop.hazy for crop in crops]), np.stack([crop.clear for crop in crops]))


def check_frames(group: str, frames: int) -> None:
    """Raise UsageError for a clip without a frame."""
    if frames < 1:
        raise UsageError(f"{group}.frames={frames} is too few: a clip has at least 1, for example 5.")

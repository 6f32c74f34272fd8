"""Folders of hazy and clear pictures on disk: RESIDE as its users keep it, and any two folders.

The same data set goes by many folder names (`SOTS/indoor/{hazy,gt}`, `SOTS-IN/{IN,GT}`,
`reside-indoor/test/{hazy,gt}`, ...). The config lists the candidates and `known` the shapes of the field's
repositories; the first that exists is taken and reported in `layout`. Ground truth is never resized: SOTS-indoor's
is 640x480 with a white rim and its hazy pictures are the 620x460 centre, where a one-pixel shift costs 6 dB.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import torch

from dehaze_bench.data.augmentation import place_crop
from dehaze_bench.data.folders import Pairs, find_pairs, scene_of, select, shared_scenes
from dehaze_bench.data.known import CLEAR_FOLDERS, HAZY_FOLDERS
from dehaze_bench.data.matching import choose
from dehaze_bench.data.pairs import Sample, TestPair, to_planes
from dehaze_bench.data.store import Picture, Source
from dehaze_bench.data.store_finding import choose_source, find_under
from dehaze_bench.errors import UsageError

__all__ = ["FolderCrops", "FolderPairs", "Pairs", "find_pairs"]
_CROPS = {"none": 0, "centre10": 10}


class FolderPairs:
    """A test set of whole pictures in two folders.

    Args:
        name: of the test set.
        root: the data root; `folders` are looked for in it. It may also be a packed copy, or a folder of such.
        folders: candidates for the folder of this data set, tried in order, before the known shapes of the set.
        hazy, clear: candidates for its two subfolders, or absolute paths; `clear=None` for pictures without
            ground truth.
        match: "equal", "prefix" (clear = hazy name up to its first underscore), "ending" (01_hazy with 01_GT),
            "auto" (equal if all are, else prefix, else ending), or a pattern such as "*_hazy:*_GT".
        crop: "none", or "centre10": 10 px are cut from each side of the clear picture, unless it has the hazy
            size already.
        split: one of the named splits of the set, by the numbers in the names. Where training and test pictures
            lie in one folder, the usual split is taken unasked.

    Raises UsageError when built, for anything wrong with the structure: no root, no known layout, a hazy
    picture without a clear one, sizes that do not fit. A damaged file is found when it is read, and named.
    """

    def __init__(
        self,
        name: str,
        root: str,
        folders: Sequence[str] = (".",),
        hazy: Sequence[str] | str = HAZY_FOLDERS,
        clear: Sequence[str] | str | None = CLEAR_FOLDERS,
        match: str = "auto",
        crop: str = "none",
        split: str | None = None,
    ) -> None:
        self.name = name
        self._margin = choose(name, "crop", crop, _CROPS)
        found = lambda: find_pairs(name, root, folders, hazy, clear, match, "test", split)  # noqa: E731
        self._pairs, self._source = _open("testset", name, root, split, found)
        self.decoder = self._source.decoder
        if self._pairs.clear is not None:
            for hazy_path, clear_path in zip(self._pairs.hazy, self._pairs.clear, strict=True):
                size = self._source.size
                _check_sizes(hazy_path, size(hazy_path), clear_path, size(clear_path), self._margin)

    @property
    def layout(self) -> str:
        """Where the pictures were found and how they were paired."""
        return self._pairs.layout

    @property
    def pairs(self) -> Pairs:
        """The pairs that were found."""
        return self._pairs

    @property
    def has_truth(self) -> bool:
        """Whether there are clear pictures to compare with."""
        return self._pairs.clear is not None

    def size(self, index: int) -> tuple[int, int]:
        """Return (height, width) of a hazy picture."""
        return self._source.size(self._pairs.hazy[index])

    def __len__(self) -> int:
        return len(self._pairs.names)

    def __getitem__(self, index: int) -> TestPair:
        hazy = self._source.open(self._pairs.hazy[index])
        height, width = hazy.shape[:2]
        shown = torch.from_numpy(to_planes(hazy[:, :]))
        if self._pairs.clear is None:
            return TestPair(self._pairs.names[index], shown, None)
        clear, cut = _open_clear(self._source, self._pairs, index, hazy, self._margin)
        window = np.s_[cut : cut + height, cut : cut + width]
        return TestPair(self._pairs.names[index], shown, torch.from_numpy(to_planes(clear[window])))


class FolderCrops:
    """A training set of random crops from two folders; arguments as in `FolderPairs`.

    `exclude_test_scenes` leaves out the pictures of scenes that are in the test set under the same root too (OTS
    shares 75 with SOTS-outdoor); they are read from the names there. Only the first pair is measured when built: a
    training set has tens of thousands of files.
    """

    def __init__(
        self,
        name: str,
        root: str,
        folders: Sequence[str] = (".",),
        hazy: Sequence[str] | str = HAZY_FOLDERS,
        clear: Sequence[str] | str = CLEAR_FOLDERS,
        match: str = "auto",
        crop: str = "none",
        split: str | None = None,
        exclude_test_scenes: bool = False,
    ) -> None:
        self.name = name
        self._margin = choose(name, "crop", crop, _CROPS)
        found = lambda: find_pairs(name, root, folders, hazy, clear, match, "train", split)  # noqa: E731
        self._pairs, self._source = _open("dataset", name, root, split, found)
        if exclude_test_scenes:
            self._pairs = _without(self._pairs, name, shared_scenes(name, root))
        self.decoder = self._source.decoder
        assert self._pairs.clear is not None
        first = self._pairs.hazy[0], self._pairs.clear[0]
        _check_sizes(first[0], self._source.size(first[0]), first[1], self._source.size(first[1]), self._margin)

    @property
    def layout(self) -> str:
        """Where the pictures were found and how they were paired."""
        return self._pairs.layout

    @property
    def pairs(self) -> Pairs:
        """The pairs that were found."""
        return self._pairs

    @property
    def scene_names(self) -> list[str]:
        """The scene that each pair shows, as `scene_in` reads it from the names."""
        return self._pairs.scenes

    def __len__(self) -> int:
        return len(self._pairs.names)

    @property
    def reads_rows(self) -> bool:
        """Whether a crop costs no more than copying its rows from a packed copy."""
        return self._source.reads_rows

    def sample(self, index: int, size: int, rng: np.random.Generator, edge_decay: float = 0.0) -> Sample:
        """Return a random `size` x `size` crop of both pictures in uint8 levels; UsageError if they are smaller."""
        return self.crops([index], size, rng, edge_decay)[0]

    def crops(
        self, indices: Sequence[int], size: int, rng: np.random.Generator, edge_decay: float = 0.0
    ) -> list[Sample]:
        """Return the same random crop of several pairs, the frames of a clip; UsageError where they differ in size."""
        made: list[Sample] = []
        place: tuple[int, int] | None = None
        for index in indices:
            hazy = self._source.open(self._pairs.hazy[index])
            height, width = hazy.shape[:2]
            clear, cut = _open_clear(self._source, self._pairs, index, hazy, self._margin)
            if size > min(height, width):
                raise UsageError(
                    f"{self._pairs.hazy[index]}: found {width}x{height} pixels, expected at least {size}x{size}. "
                    f"Use a crop of at most {min(height, width)}, or take this picture out of the training set."
                )
            if place is None:
                sides = height, width
                place = place_crop(sides, (size, size), rng, edge_decay)
            if (height, width) != sides:
                raise UsageError(
                    f"{self._pairs.hazy[index]}: found {width}x{height} pixels, but {self._pairs.hazy[indices[0]]} "
                    f"of the same video has {sides[1]}x{sides[0]}. The frames of a video have one size."
                )
            (top, left), name = place, self._pairs.names[index]
            bottom, right = top + size, left + size
            truth = clear[cut + top : cut + bottom, cut + left : cut + right]
            made.append(Sample(name, hazy[top:bottom, left:right].transpose(2, 0, 1), truth.transpose(2, 0, 1)))
        return made


def _without(pairs: Pairs, name: str, scenes: Collection[str]) -> Pairs:
    gone = [scene for scene in map(scene_of, pairs.names) if scene in scenes]
    if len(gone) == len(pairs.names):
        raise UsageError(f"{name}: all scenes are in the test set too; exclude_test_scenes leaves none to train on.")
    remark = f"; {len(gone)} pairs of {len(set(gone))} scenes left out, which the test set has too"
    return select(pairs, lambda picture: scene_of(picture) not in scenes, remark)


def _open(role: str, name: str, root: str, split: str | None, find: Callable[[], Pairs]) -> tuple[Pairs, Source]:
    """Return the pairs and what to read them through; the files may be absent where the root is or holds a copy."""
    packed = find_under(root, role, name)
    if packed is not None and packed.is_at(root):
        return Pairs(*packed.pairs(split)), packed
    try:
        found = find()
    except UsageError:
        if packed is None:
            raise
        return Pairs(*packed.pairs(split)), packed
    return found, choose_source([*found.hazy, *(found.clear or [])], packed)


def _open_clear(source: Source, pairs: Pairs, index: int, hazy: Picture, margin: int) -> tuple[Picture, int]:
    """Open the clear picture of a pair, and say how many of its pixels to cut so that it lies on the hazy one."""
    assert pairs.clear is not None
    clear = source.open(pairs.clear[index])
    sizes = [(picture.shape[0], picture.shape[1]) for picture in (hazy, clear)]
    return clear, _check_sizes(pairs.hazy[index], sizes[0], pairs.clear[index], sizes[1], margin)


def _check_sizes(hazy_path: Path, hazy: tuple[int, int], clear_path: Path, clear: tuple[int, int], margin: int) -> int:
    """Return how many pixels to cut from each side of the clear picture."""
    if clear == hazy:
        return 0
    if margin and clear == (hazy[0] + 2 * margin, hazy[1] + 2 * margin):
        return margin
    rule = "the same size" if not margin else f"the same size, or {margin} px more on each side"
    hint = (
        " This looks like RESIDE's uncropped ground truth: set crop=centre10."
        if not margin and clear == (hazy[0] + 20, hazy[1] + 20)
        else " Pictures are never resized: fix the pair, or check that it belongs together."
    )
    raise UsageError(
        f"{hazy_path} is {hazy[1]}x{hazy[0]} but {clear_path} is {clear[1]}x{clear[0]}; expected {rule}.{hint}"
    )

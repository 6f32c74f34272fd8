"""Folders of hazy and clear pictures on disk: RESIDE as its users keep it, and any two folders.

The same data set goes by many folder names (`SOTS/indoor/{hazy,gt}`, `SOTS-IN/{IN,GT}`,
`reside-indoor/test/{hazy,gt}`, ...). The config lists the candidates; the first that exists is taken and
reported in `layout`. Ground truth is never resized: SOTS-indoor's is 640x480 with a white rim and its hazy
pictures are the 620x460 centre, where a one-pixel shift costs 6 dB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from dehaze_bench.data.pairs import SUFFIXES, Sample, TestPair, decoder, read_image, read_size, to_tensor
from dehaze_bench.errors import UsageError, nearest

_T = TypeVar("_T")
HAZY_FOLDERS = ("hazy", "IN", "input")
CLEAR_FOLDERS = ("gt", "GT", "clear", "target")
_MATCHES = {
    "equal": "clear name = hazy name",
    "prefix": "clear name = hazy name up to its first underscore",
    "auto": "equal names, else the prefix rule",
}
_CROPS = {"none": 0, "centre10": 10}


@dataclass(frozen=True)
class Pairs:
    """The pairs that were found, in name order, and how."""

    layout: str
    names: list[str]
    hazy: list[Path]
    clear: list[Path] | None


class FolderPairs:
    """A test set of whole pictures in two folders.

    Args:
        name: of the test set.
        root: the data root; `folders` are looked for in it.
        folders: candidates for the folder of this data set, tried in order.
        hazy, clear: candidates for its two subfolders, or absolute paths; `clear=None` for pictures without
            ground truth.
        match: "equal", "prefix" (clear = hazy name up to its first underscore) or "auto" (equal if all are,
            else prefix).
        crop: "none", or "centre10": 10 px are cut from each side of the clear picture, unless it has the hazy
            size already.

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
    ) -> None:
        self.name = name
        self.decoder = decoder()
        self._margin = _choose(name, "crop", crop, _CROPS)
        self._pairs = find_pairs(name, root, folders, hazy, clear, match)
        if self._pairs.clear is not None:
            for hazy_path, clear_path in zip(self._pairs.hazy, self._pairs.clear, strict=True):
                _check_sizes(hazy_path, read_size(hazy_path), clear_path, read_size(clear_path), self._margin)

    @property
    def layout(self) -> str:
        """Where the pictures were found and how they were paired."""
        return self._pairs.layout

    def __len__(self) -> int:
        return len(self._pairs.names)

    def __getitem__(self, index: int) -> TestPair:
        hazy = read_image(self._pairs.hazy[index])
        if self._pairs.clear is None:
            return TestPair(self._pairs.names[index], to_tensor(hazy), None)
        clear = read_clear(self._pairs.clear[index], self._pairs.hazy[index], hazy.shape[:2], self._margin)
        return TestPair(self._pairs.names[index], to_tensor(hazy), to_tensor(clear))


class FolderCrops:
    """A training set of random crops from two folders; arguments as in `FolderPairs`.

    Only the first pair is measured when built: a training set has tens of thousands of files.
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
    ) -> None:
        self.name = name
        self.decoder = decoder()
        self._margin = _choose(name, "crop", crop, _CROPS)
        found = find_pairs(name, root, folders, hazy, clear, match)
        assert found.clear is not None
        self.layout, self._names, self._hazy, self._clear = found.layout, found.names, found.hazy, found.clear
        _check_sizes(self._hazy[0], read_size(self._hazy[0]), self._clear[0], read_size(self._clear[0]), self._margin)

    def __len__(self) -> int:
        return len(self._names)

    def sample(self, index: int, size: int, rng: np.random.Generator) -> Sample:
        """Return a random `size` x `size` crop of both pictures; UsageError if they are smaller."""
        hazy = read_image(self._hazy[index])
        height, width = hazy.shape[:2]
        clear = read_clear(self._clear[index], self._hazy[index], (height, width), self._margin)
        if size > min(height, width):
            raise UsageError(
                f"{self._hazy[index]}: found {width}x{height} pixels, expected at least {size}x{size}. "
                f"Use a crop of at most {min(height, width)}, or take this picture out of the training set."
            )
        top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
        window = np.s_[top : top + size, left : left + size]
        return Sample(
            self._names[index],
            np.ascontiguousarray(hazy[window].transpose(2, 0, 1)),
            np.ascontiguousarray(clear[window].transpose(2, 0, 1)),
        )


def find_pairs(
    name: str,
    root: str,
    folders: Sequence[str],
    hazy: Sequence[str] | str,
    clear: Sequence[str] | str | None,
    match: str,
) -> Pairs:
    """Find the folders of a data set and pair their pictures; UsageError says what is found and expected."""
    _choose(name, "match", match, _MATCHES)
    hazy_folder, clear_folder = _locate(
        name, Path(root).expanduser(), folders, _listed(hazy), None if clear is None else _listed(clear)
    )
    hazy_files = _pictures(name, hazy_folder)
    names = sorted(hazy_files)
    if clear_folder is None:
        layout = f"hazy {hazy_folder}, {len(names)} pictures, no clear ones"
        return Pairs(layout, names, [hazy_files[n] for n in names], None)
    clear_files = _pictures(name, clear_folder)
    if match == "auto":
        match = "equal" if all(n in clear_files for n in names) else "prefix"
    wanted = names if match == "equal" else [n.split("_", 1)[0] for n in names]
    missing = [(n, w) for n, w in zip(names, wanted, strict=True) if w not in clear_files]
    if missing:
        first, key = missing[0]
        raise UsageError(
            f"{name}: {len(missing)} of {len(names)} pictures have no clear one ({_MATCHES[match]}). "
            f"First: {hazy_files[first]} needs {key}.png in {clear_folder}, "
            f"which holds {_shorten([path.name for path in clear_files.values()])}. "
            "Complete the clear folder, remove the hazy pictures, or set another match rule: equal, prefix."
        )
    layout = f"hazy {hazy_folder}, clear {clear_folder}, {len(names)} pairs, {_MATCHES[match]}"
    return Pairs(layout, names, [hazy_files[n] for n in names], [clear_files[w] for w in wanted])


def read_clear(path: Path, hazy_path: Path, hazy_size: tuple[int, ...], margin: int) -> np.ndarray:
    """Decode the clear picture and cut its margin, so that it lies on the hazy one (height, width)."""
    clear = read_image(path)
    height, width = clear.shape[:2]
    cut = _check_sizes(hazy_path, (hazy_size[0], hazy_size[1]), path, (height, width), margin)
    return clear[cut : height - cut, cut : width - cut]


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


def _locate(
    name: str, root: Path, folders: Sequence[str], hazy: Sequence[str], clear: Sequence[str] | None
) -> tuple[Path, Path | None]:
    point = f"Set paths.data=DIR (or DEHAZE_DATA=DIR) to the folder that holds it, or give {name} another root."
    shape = f"{{{','.join(hazy)}}}" + ("" if clear is None else f" and {{{','.join(clear)}}}")
    inside = "" if list(folders) == ["."] else f"{' or '.join(folders)} in it, with "
    expected = f"expected {inside}the subfolders {shape}"
    if not root.is_dir():
        raise UsageError(f"{name}: the data root {root.absolute()} does not exist; {expected}. {point}")
    partial = ""
    for folder in folders:
        base = root / folder
        hazy_folder = next((base / h for h in hazy if (base / h).is_dir()), None)
        clear_folder = None if clear is None else next((base / c for c in clear if (base / c).is_dir()), None)
        if hazy_folder is not None and (clear is None or clear_folder is not None):
            return hazy_folder, clear_folder
        if base.is_dir() and not partial and base != root:
            lacks = "hazy" if hazy_folder is None else "clear"
            partial = f" {base} is there but has no {lacks} folder: it holds {_shorten(_listdir(base))}."
    raise UsageError(
        f"{name}: no known layout under {root.absolute()}, which holds {_shorten(_listdir(root))}; "
        f"{expected}.{partial} {point}"
    )


def _pictures(name: str, folder: Path) -> dict[str, Path]:
    """Return stem -> file for the pictures of a folder; UsageError if there is none or two share a stem."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            if path.stem in files:
                raise UsageError(f"{name}: {files[path.stem]} and {path.name} share one name. Keep one of them.")
            files[path.stem] = path
    if not files:
        raise UsageError(
            f"{name}: no pictures in {folder}, which holds {_shorten(_listdir(folder))}; "
            f"expected files ending in {', '.join(SUFFIXES)}. Unpack the data set there."
        )
    return files


def _listed(value: Sequence[str] | str) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _listdir(folder: Path) -> list[str]:
    return sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())


def _shorten(entries: Sequence[str], limit: int = 8) -> str:
    if not entries:
        return "nothing"
    return ", ".join(entries[:limit]) + (f", ... ({len(entries)} in all)" if len(entries) > limit else "")


def _choose(name: str, field: str, value: str, choices: Mapping[str, _T]) -> _T:
    if value not in choices:
        raise UsageError(f"{name}: {field}={value} is not known. {nearest(value, choices)}")
    return choices[value]

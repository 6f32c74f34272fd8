"""Miniature trees: every known set in every folder shape, with its official names and scaled-down counts.

Content is smooth and random per scene; the hazy picture is the clear one under even haze, so that a pair can be told
from a swapped one. `grow` writes one tree and returns the names that belong to the part.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dehaze_bench.data.known import KNOWN, MAPPING, ROLES, Shape

MARGIN = 10
Paint = Callable[[str, int, int], np.ndarray]
_EQUAL_KEEPERS = ("DehazeFormer", "BasicSR")  # they keep one clear copy per hazy picture, under its name
_HAZE = re.compile(r"_(239_0\.005|222_0\.03)(?=/)")
_NTIRE = {"o_haze": 45, "i_haze": 35, "dense_haze": 55, "nh_haze": 55}


@dataclass(frozen=True)
class Tree:
    """One part of a set in one shape."""

    name: str
    role: str
    shape: Shape

    def __str__(self) -> str:
        folders = f"{self.shape.hazy[0]}+{self.shape.clear[0] if self.shape.clear else 'none'}"
        return f"{self.name}-{self.role}-{self.shape.keeper}-{self.shape.base}-{folders}".replace("/", "_")

    @property
    def config(self) -> str:
        """The file of its config below conf/."""
        return f"{'dataset' if self.role == 'train' else 'testset'}/{self.name}.yaml"


def trees() -> list[Tree]:
    """Return every part in every shape; where several keepers share the folders, once."""
    found: dict[tuple[str, ...], Tree] = {}
    for name, known in KNOWN.items():
        for role in ROLES:
            part = known.part(role)
            for shape in part.shapes if part else ():
                equal = str(shape.keeper in _EQUAL_KEEPERS)
                key = (name, role, shape.base, shape.hazy[0], *shape.clear[:1], equal)
                found.setdefault(key, Tree(name, role, shape))
    return list(found.values())


def grow(
    root: Path, tree: Tree, height: int = 24, width: int = 32, num: int | None = None, paint: Paint | None = None
) -> list[str]:
    """Write a tree under a root and return the names of the hazy pictures of its part, sorted.

    `num` scenes instead of the few of before, where the set has so many; `paint` makes the clear pictures.
    """
    shape, base = tree.shape, root / tree.shape.base
    paint = paint or picture_of
    parts = ["1", "2"] if "*" in shape.hazy[0] else [""]
    listed = []
    expected = []
    margin = MARGIN if tree.name == "sots_indoor" else 0
    for number, (role, hazy, clear) in enumerate(_stems(tree, num)):
        part = parts[number % len(parts)]
        folder = base / shape.hazy[0].replace("*", part) if not _shares(tree) else base
        picture = paint(shown_in(clear or hazy), height + 2 * margin, width + 2 * margin)
        inner = picture[margin : margin + height, margin : margin + width]
        save(folder / f"{hazy}{_suffix(tree, hazy=True)}", veil(inner, number if paint is not picture_of else 0))
        listed.append((folder / f"{hazy}{_suffix(tree, hazy=True)}").relative_to(base))
        if shape.clear:
            folder = base if _shares(tree) else base / shape.clear[0]
            save(folder / f"{clear}{_suffix(tree, hazy=False)}", picture)
        if role == tree.role:
            expected.append(_plain_video(hazy) if shape.mapped else hazy)
    if shape.mapped:
        _map_videos(base)
    if shape.listing:
        (root / shape.listing).parent.mkdir(parents=True, exist_ok=True)
        (root / shape.listing).write_text("".join(f"{path.as_posix()}\n" for path in listed[:-1]))
        expected = expected[:-1]
    return sorted(expected)


def veil(clear: np.ndarray, number: int = 0) -> np.ndarray:
    """Put even haze over a picture, another one for each number."""
    t = 0.5 + (7 * number % 20) / 100
    return (t * clear + 240 * (1 - t)).astype(np.uint8)


def paint_scene(name: str, height: int, width: int) -> np.ndarray:
    """Return a picture of rectangles with a fine texture that belongs to a name, uint8 (height, width, 3)."""
    return paint(zlib.crc32(name.encode()), height, width)


def paint(seed: int, height: int, width: int) -> np.ndarray:
    """Return a scene of rectangles with a fine texture, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), rng.uniform(0.1, 0.7, 3))
    for _ in range(60):
        top, left = rng.integers(-10, height), rng.integers(-10, width)
        bottom, right = top + rng.integers(6, height // 2), left + rng.integers(6, width // 2)
        picture[max(top, 0) : bottom, max(left, 0) : right] = rng.uniform(0, 0.8, 3)
    picture += rng.normal(0, 0.02, (height, width, 1))
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def picture_of(name: str, height: int, width: int) -> np.ndarray:
    """Return a smooth picture that belongs to a name, uint8 (height, width, 3)."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save(path: Path, pixels: np.ndarray) -> None:
    """Write a picture and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95) if path.suffix.lower() == ".jpg" else Image.fromarray(pixels).save(
        path
    )


def _shares(tree: Tree) -> bool:
    """Whether hazy and clear pictures lie in one folder: NH-HAZE as it is downloaded."""
    return tree.shape.whole and tree.name == "nh_haze"


def _suffix(tree: Tree, hazy: bool) -> str:
    if tree.name in ("o_haze", "i_haze", "ots"):
        return ".jpg"
    if tree.name == "revide":
        return ".JPG"
    if tree.name == "hazeworld":
        return ".jpg"
    return ".jpg" if tree.name == "sots_outdoor" and hazy and tree.shape.keeper != "DehazeFormer" else ".png"


def shown_in(stem: str) -> str:
    """Return what a clear picture shows: that of a video is the same under every haze."""
    return _HAZE.sub("", "/".join(stem.split("/")[-2:]))


def _plain_video(stem: str) -> str:
    """Return the name of a frame of HazeWorld without the split of its source."""
    source, _, rest = stem.split("/", 2)
    return f"{source}/{rest}"


def _map_videos(base: Path) -> None:
    for source in (base / "gt").iterdir():
        for role, split in (("train", "train"), ("test", "val")):
            (source / MAPPING.format(role=role)).write_text(f"{split} {role} some_video 2\n")


def _stems(tree: Tree, num: int | None) -> Iterator[tuple[str, str, str]]:
    """Yield (role, hazy stem, clear stem) of everything that lies in the folder."""
    equal = tree.shape.keeper in _EQUAL_KEEPERS
    for role, hazy, clear in _official(tree, num):
        yield role, hazy, hazy if equal else clear


def _official(tree: Tree, num: int | None) -> Iterator[tuple[str, str, str]]:
    name, role = tree.name, tree.role
    roles = ROLES if tree.shape.whole else (role,)
    more = range(3, (num or 0) + 1)  # scenes beyond the first two
    if name == "its":
        for i in (1, 2, *more):
            for k, a in (1, f"0.{90179 - i}"), (2, f"0.{97842 - i}"):
                yield role, f"{i}_{k}_{a}", str(i)
    elif name == "sots_indoor":
        for i in (1400, 1401, *(1399 + i for i in more)):
            for k in (1, 10):
                yield role, f"{i}_{k}", str(i)
    elif name in ("ots", "sots_outdoor"):
        # Scene 0051 is in both, as 75 are.
        pairs = [("0025", "0.8_0.04"), ("0025", "0.9_0.2"), ("0051", "1_0.08"), ("0099", "0.95_0.16")]
        if name == "sots_outdoor":
            pairs = [("0001", "0.8_0.2"), ("0051", "0.9_0.16"), ("0051", "1_0.08")]
        pairs += [(f"0{'1' if name == 'ots' else '2'}{i:02}", "0.85_0.12") for i in more]
        for scene_id, haze in pairs:
            yield role, f"{scene_id}_{haze}", scene_id
    elif name == "haze4k":
        for i, haze in ((1, "0.89_1.56"), (2, "0.93_1.66"), *((i, "0.68_0.66") for i in more or (3,))):
            yield role, f"{i}_{haze}", str(i)
    elif name in _NTIRE:
        kind = {"o_haze": "_outdoor", "i_haze": "_indoor"}.get(name, "")
        last = _NTIRE[name]
        for each in roles:
            for i in (1, 2, *more, last - 5) if each == "train" else range(last - 4, last + 1):
                equal = tree.shape.keeper in (*_EQUAL_KEEPERS, "Restormer")
                yield each, f"{i:02}" if equal else f"{i:02}{kind}_hazy", f"{i:02}" if equal else f"{i:02}{kind}_GT"
    elif name.startswith("rice"):
        first = {"rice1": 400, "rice2": 588}[name]
        for each in roles:
            for i in (0, 1, *more, first - 1) if each == "train" else (first, first + 1, *(first + i for i in more)):
                yield each, str(i), str(i)
    elif name == "revide":
        for stem in ("C001/00000", "C001/00001", "L002/00000", *(f"L{i:03}/00000" for i in more)):
            yield role, stem, stem
    elif name == "hazeworld":
        yield from _hazeworld(tree, more)
    else:
        names = {"rshaze": ("00000_0_0.1800", "00000_1_0.4100"), "ntire2021": ("01", "02")}.get(name, ("1", "2"))
        if name == "ntire2021" and role == "test":
            names = ("31", "35")
        pattern = {"rshaze": "{:05}_0_0.1800", "ntire2021": "3{}" if role == "test" else "{:02}"}.get(name, "{}")
        for stem in (*names, *(pattern.format(i) for i in more)):
            yield role, stem, stem


def _hazeworld(tree: Tree, more: range) -> Iterator[tuple[str, str, str]]:
    """Two hazy videos of each true one; as downloaded, both parts lie together and share the true one."""
    mapped = tree.shape.mapped
    for role, split in (("train", "train"), ("test", "val")) if mapped else ((tree.role, ""),):
        for haze in ("239_0.005", "222_0.03"):
            for video, frame in (("DAVIS/bear", 0), ("DAVIS/bear", 1), *((f"REDS/{i:03}", 0) for i in (0, *more))):
                source, name = video.split("/")
                name = f"{name}_{split}" if mapped else name
                folder = f"{source}/{split}" if mapped else source
                clear = name if mapped else f"{name}_{haze}"
                yield role, f"{folder}/{name}_{haze}/{frame:05}", f"{folder}/{clear}/{frame:05}"

"""Miniature trees: every known set in every folder shape, with its official names and scaled-down counts.

Content is smooth and random per scene; the hazy picture is the clear one under even haze, so that a pair can be told
from a swapped one. `grow` writes one tree and returns the names that belong to the part.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dehaze_bench.data.known import KNOWN, ROLES, Shape

MARGIN = 10
_EQUAL_KEEPERS = ("DehazeFormer", "BasicSR")  # they keep one clear copy per hazy picture, under its name
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


def grow(root: Path, tree: Tree, height: int = 24, width: int = 32) -> list[str]:
    """Write a tree under a root and return the names of the hazy pictures of its part, sorted."""
    shape, base = tree.shape, root / tree.shape.base
    parts = ["1", "2"] if "*" in shape.hazy[0] else [""]
    listed = []
    expected = []
    margin = MARGIN if tree.name == "sots_indoor" else 0
    for number, (role, hazy, clear) in enumerate(_stems(tree)):
        part = parts[number % len(parts)]
        folder = base / shape.hazy[0].replace("*", part) if not _shares(tree) else base
        picture = picture_of(clear or hazy, height + 2 * margin, width + 2 * margin)
        inner = picture[margin : margin + height, margin : margin + width]
        save(folder / f"{hazy}{_suffix(tree, hazy=True)}", (0.5 * inner + 120).astype(np.uint8))
        listed.append((folder / f"{hazy}{_suffix(tree, hazy=True)}").relative_to(base))
        if shape.clear:
            folder = base if _shares(tree) else base / shape.clear[0]
            save(folder / f"{clear}{_suffix(tree, hazy=False)}", picture)
        if role == tree.role:
            expected.append(hazy)
    if shape.listing:
        (root / shape.listing).parent.mkdir(parents=True, exist_ok=True)
        (root / shape.listing).write_text("".join(f"{path.as_posix()}\n" for path in listed[:-1]))
        expected = expected[:-1]
    return sorted(expected)


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
    return ".jpg" if tree.name == "sots_outdoor" and hazy and tree.shape.keeper != "DehazeFormer" else ".png"


def _stems(tree: Tree) -> Iterator[tuple[str, str, str]]:
    """Yield (role, hazy stem, clear stem) of everything that lies in the folder."""
    equal = tree.shape.keeper in _EQUAL_KEEPERS
    for role, hazy, clear in _official(tree):
        yield role, hazy, hazy if equal else clear


def _official(tree: Tree) -> Iterator[tuple[str, str, str]]:
    name, role = tree.name, tree.role
    roles = ROLES if tree.shape.whole else (role,)
    if name == "its":
        for i, k, a in ((1, 1, "0.90179"), (1, 2, "0.97842"), (2, 1, "0.99082"), (2, 2, "0.76381")):
            yield role, f"{i}_{k}_{a}", str(i)
    elif name == "sots_indoor":
        for i, k in ((1400, 1), (1400, 2), (1401, 1), (1401, 10)):
            yield role, f"{i}_{k}", str(i)
    elif name in ("ots", "sots_outdoor"):
        # Scene 0051 is in both, as 75 are.
        pairs = [("0025", "0.8_0.04"), ("0025", "0.9_0.2"), ("0051", "1_0.08"), ("0099", "0.95_0.16")]
        if name == "sots_outdoor":
            pairs = [("0001", "0.8_0.2"), ("0051", "0.9_0.16"), ("0051", "1_0.08")]
        for scene_id, haze in pairs:
            yield role, f"{scene_id}_{haze}", scene_id
    elif name == "haze4k":
        for i, haze in ((1, "0.89_1.56"), (2, "0.93_1.66"), (3, "0.68_0.66")):
            yield role, f"{i}_{haze}", str(i)
    elif name in _NTIRE:
        kind = {"o_haze": "_outdoor", "i_haze": "_indoor"}.get(name, "")
        last = _NTIRE[name]
        for each in roles:
            for i in (1, 2, last - 5) if each == "train" else range(last - 4, last + 1):
                equal = tree.shape.keeper in (*_EQUAL_KEEPERS, "Restormer")
                yield each, f"{i:02}" if equal else f"{i:02}{kind}_hazy", f"{i:02}" if equal else f"{i:02}{kind}_GT"
    elif name.startswith("rice"):
        first = {"rice1": 400, "rice2": 588}[name]
        for each in roles:
            for i in (0, 1, first - 1) if each == "train" else (first, first + 1):
                yield each, str(i), str(i)
    elif name == "revide":
        for stem in ("C001/00000", "C001/00001", "L002/00000"):
            yield role, stem, stem
    else:
        names = {"rshaze": ("00000_0_0.1800", "00000_1_0.4100"), "ntire2021": ("01", "02")}.get(name, ("1", "2"))
        if name == "ntire2021" and role == "test":
            names = ("31", "35")
        for stem in names:
            yield role, stem, stem

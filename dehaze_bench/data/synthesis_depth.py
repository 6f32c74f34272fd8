"""Depth from disk, as the distance that a haze recipe is defined over.

A PNG or TIFF of 8 or 16 bits, a float TIFF, or a NumPy array. Whether its numbers are metres, levels of an unknown
unit, or inverse depth (as networks for relative depth give) cannot be read from the file, so the rule says it; a
metric recipe refuses to guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dehaze_bench.data.pairs import SUFFIXES
from dehaze_bench.errors import UsageError, nearest

DEPTH_SUFFIXES = (".png", ".npy", ".tif", ".tiff")
KINDS = ("depth", "inverse")
HOLES = ("error", "nearest", "keep")


@dataclass(frozen=True)
class DepthRule:
    """What the numbers of a depth file mean.

    kind: "depth" grows with distance; "inverse" shrinks, and one minus it, stretched to [0, 1], is the distance.
    scale: metres per stored unit, for example 0.001 of a PNG in millimetres; of metric recipes only.
    far: metres of the farthest point instead, where the unit is unknown; of metric recipes only.
    holes: what becomes of pixels without depth (0, negative, not finite): "error", "nearest" (the nearest known
        value) or "keep" (0 means what it says: nearest of all, or infinitely far for inverse depth).
    """

    kind: str = "depth"
    scale: float | None = None
    far: float | None = None
    holes: str = "error"

    def __post_init__(self) -> None:
        for key, value, choices in (("kind", self.kind, KINDS), ("holes", self.holes, HOLES)):
            if value not in choices:
                raise UsageError(f"depth.{key}={value} is not known. {nearest(value, choices)}")
        for key, number in (("scale", self.scale), ("far", self.far)):
            if number is not None and not 0 < number < float("inf"):
                raise UsageError(f"depth.{key}={number} is no length: give metres above 0.")
        if self.scale is not None and (self.far is not None or self.kind == "inverse"):
            other = "depth.far" if self.far is not None else "depth.kind=inverse"
            raise UsageError(f"depth.scale and {other} contradict each other. Keep one of them.")


@dataclass(frozen=True)
class Scene:
    """A clear picture and its depth."""

    name: str
    clear: Path
    depth: Path


def find_scenes(clear: Path, depth: Path) -> list[Scene]:
    """Pair the clear pictures of a folder with depth files of equal names, in name order.

    Depth without a picture is left alone. Raises `UsageError` for a folder without pictures, two files of one name,
    or a picture without depth.
    """
    pictures, depths = _list_files("clear", clear, SUFFIXES), _list_files("depth", depth, (*DEPTH_SUFFIXES, ".exr"))
    missing = [name for name in sorted(pictures) if name not in depths]
    if missing:
        raise UsageError(
            f"{len(missing)} of {len(pictures)} clear pictures have no depth. First: {pictures[missing[0]]} needs "
            f"{missing[0]}.png or {missing[0]}.npy in {depth}, which holds {min(p.name for p in depths.values())} "
            "and the like. Depth goes by the name of its picture."
        )
    return [Scene(name, pictures[name], depths[name]) for name in sorted(pictures)]


def read_depth(path: Path) -> np.ndarray:
    """Return the numbers of a depth file as stored, (H, W), of whatever type; `UsageError` if they are no depth."""
    suffix = path.suffix.lower()
    if suffix == ".exr":
        raise UsageError(
            f"{path}: nothing that dehaze-bench installs reads EXR. Save the depth as a float .npy, or as a 16-bit PNG."
        )
    if suffix not in DEPTH_SUFFIXES:
        raise UsageError(f"{path}: expected depth as {', '.join(DEPTH_SUFFIXES)}.")
    try:
        if suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            with Image.open(path) as image:
                values = np.asarray(image)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        found = f"found {path.stat().st_size} bytes" if path.is_file() else "the file is missing"
        raise UsageError(f"{path}: expected whole depth, {found} ({error}). Copy or make it again.") from error
    shape, kind = values.shape, values.dtype
    if values.ndim == 3 and 1 in (shape[0], shape[2]):
        values = values[0] if shape[0] == 1 else values[..., 0]
    elif values.ndim == 3 and shape[2] == 3 and bool((values == values[..., :1]).all()):
        values = values[..., 0]
    if values.ndim != 2 or not (np.issubdtype(kind, np.number) and not np.issubdtype(kind, np.complexfloating)):
        raise UsageError(
            f"{path}: found an array of {'x'.join(map(str, shape))} {kind}, expected one number per pixel. A depth map "
            "in false colours is a picture of depth: save the numbers themselves."
        )
    return values


def read_distance(path: Path, rule: DepthRule, unit: str) -> np.ndarray:
    """Return the distance (H, W), float32, in the unit of a recipe: "max" ([0, 1]), "span" ([0, 2]) or "metres".

    Raises `UsageError`, which names the file, for holes that the rule does not fill, depth without any range, and
    levels of an unknown unit where metres are needed.
    """
    stored = read_depth(path)
    whole = np.issubdtype(stored.dtype, np.integer)
    depth = _fill(path, stored.astype(np.float32), rule)
    if unit == "metres":
        if rule.scale is not None:
            return depth * np.float32(rule.scale)
        if rule.far is not None:
            return _relate(path, depth, rule) * np.float32(rule.far)
        if whole or rule.kind == "inverse":
            what, remedy = (
                "depth of whole numbers",
                "depth.scale (metres per level, 0.001 of millimetres) or depth.far",
            )
            if rule.kind == "inverse":
                what, remedy = "inverse depth", "depth.far"
            raise UsageError(
                f"{path}: found {what}, which has no unit, and beta of this recipe is per metre. "
                f"Set {remedy} (metres of the farthest point)."
            )
        return depth
    if rule.scale is not None or rule.far is not None:
        key = "scale" if rule.scale is not None else "far"
        raise UsageError(f"depth.{key} is of no use here: this recipe takes relative depth. Leave it out.")
    if unit == "span":
        relative = _stretch(path, depth)
        return np.float32(2) * (1 - relative if rule.kind == "inverse" else relative)
    return _relate(path, depth, rule)


def _relate(path: Path, depth: np.ndarray, rule: DepthRule) -> np.ndarray:
    """Return distance over its maximum."""
    if rule.kind == "inverse":
        return 1 - _stretch(path, depth)
    largest = depth.max()
    if not largest > 0:
        raise _flat(path, float(largest))
    return depth / largest


def _stretch(path: Path, depth: np.ndarray) -> np.ndarray:
    low, high = depth.min(), depth.max()
    if not high > low:
        raise _flat(path, float(high))
    return (depth - low) / (high - low)


def _flat(path: Path, value: float) -> UsageError:
    return UsageError(f"{path}: the depth is {value:g} everywhere, so there is nothing to relate it to. Make it again.")


def _fill(path: Path, depth: np.ndarray, rule: DepthRule) -> np.ndarray:
    known = np.isfinite(depth) & (depth >= 0 if rule.holes == "keep" else depth > 0)
    if known.all():
        return depth
    num = int(depth.size - known.sum())
    if rule.holes != "nearest" or not known.any():
        bad = "are negative or not finite" if rule.holes == "keep" else "are 0, negative or not finite"
        remedy = (
            "Make the file again."
            if rule.holes == "keep" or not known.any()
            else "Haze would be missing there. Set depth.holes=nearest to fill them, or keep where 0 is a true value."
        )
        raise UsageError(f"{path}: {num} of {depth.size} pixels have no depth ({bad}). {remedy}")
    from scipy.ndimage import distance_transform_edt  # only where there are holes

    rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.ascontiguousarray(depth[rows, columns])


def _list_files(what: str, folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise UsageError(f"the {what} folder {folder} does not exist.")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            if path.stem in files:
                raise UsageError(f"{files[path.stem]} and {path.name} share one name. Keep one of them.")
            files[path.stem] = path
    if not files:
        raise UsageError(f"the {what} folder {folder} holds no files ending in {', '.join(suffixes)}.")
    return files

"""Test set `photos`: 14 hazy pairs made from the photographs inside scikit-image, without a download.

What it is: real photographs under synthetic haze. The haze of the three `motorcycle` pairs follows depth
measured by stereo (Middlebury 2014, holes filled with the nearest value). The other photographs have no
depth; theirs is a tilted plane with smooth bumps that do not follow the objects, so haze edges never help
there. Scores say whether a network removes haze, and rank no methods for print.

How: airlight and beta are fixed in the table below, in the ranges of RESIDE; both pictures are rounded to 8
bits and written once as PNG to a cache folder; only hazy and clear pictures are kept.

Pictures and licences, as scikit-image states them: astronaut (Eileen Collins; NASA, public domain), coffee
(Rachel Michetti; CC0), chelsea (Stefan van der Walt; CC0), rocket (SpaceX; public domain), motorcycle
(Middlebury stereo 2014, Scharstein et al.; no licence text in the package, so it is read from there and never
copied into this repository).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import tempfile
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from dehaze_bench import registry
from dehaze_bench.data.haze import add_haze, transmit
from dehaze_bench.data.pairs import TestPair, decoder, read_image, to_tensor, write_image
from dehaze_bench.errors import UsageError

VERSION = 1
# Calibration of the stereo pair, from scikit-image's documentation of `stereo_motorcycle`.
_FOCAL, _BASELINE, _OFFSET = 994.978, 0.193001, 31.086


@dataclass(frozen=True)
class _Recipe:
    name: str
    file: str
    window: tuple[int, int, int, int]  # top, left, height, width
    airlight: float
    beta: float  # per metre for the stereo pair, else per depth of the scene
    slant: float  # degrees: the direction in which the plane recedes; 90 is up
    near: float  # depth of its nearest point, where the farthest is 1
    bumps: int  # seed of the smooth variation


_RECIPES = (
    _Recipe("astronaut_1", "astronaut.png", (0, 0, 512, 512), 0.85, 0.7, 80, 0.35, 1),
    _Recipe("astronaut_2", "astronaut.png", (0, 0, 384, 384), 0.95, 1.0, 120, 0.30, 2),
    _Recipe("astronaut_3", "astronaut.png", (96, 112, 384, 400), 0.78, 1.5, 60, 0.25, 3),
    _Recipe("coffee_1", "coffee.png", (0, 0, 400, 600), 0.92, 0.8, 90, 0.40, 4),
    _Recipe("coffee_2", "coffee.png", (0, 0, 400, 400), 0.75, 1.1, 100, 0.30, 5),
    _Recipe("coffee_3", "coffee.png", (0, 200, 400, 400), 0.99, 1.4, 75, 0.25, 6),
    _Recipe("chelsea_1", "chelsea.png", (0, 0, 300, 451), 0.82, 0.6, 90, 0.40, 7),
    _Recipe("chelsea_2", "chelsea.png", (0, 0, 300, 451), 0.96, 1.2, 45, 0.30, 8),
    _Recipe("rocket_1", "rocket.jpg", (0, 0, 427, 640), 0.88, 0.6, 90, 0.20, 9),
    _Recipe("rocket_2", "rocket.jpg", (107, 120, 320, 400), 1.00, 0.9, 95, 0.20, 10),
    _Recipe("rocket_3", "rocket.jpg", (0, 240, 427, 400), 0.80, 1.3, 85, 0.15, 11),
    _Recipe("motorcycle_1", "motorcycle_left.png", (0, 50, 500, 640), 0.86, 0.12, 0, 0, 0),
    _Recipe("motorcycle_2", "motorcycle_left.png", (100, 60, 384, 512), 0.94, 0.20, 0, 0, 0),
    _Recipe("motorcycle_3", "motorcycle_left.png", (20, 200, 384, 512), 0.76, 0.30, 0, 0, 0),
)


class Photos:
    """The test set; makes its pictures once, in a cache folder.

    The folder is `cache_dir`, else $DEHAZE_BENCH_CACHE, else ~/.cache/dehaze_bench.

    Two processes may start at once: one builds under a lock, in a folder of its own that is then renamed. A
    cache of another version, with a missing, truncated or changed file, is rebuilt. Raises UsageError if the
    folder cannot be written or scikit-image is missing.
    """

    name = "photos"

    def __init__(self, cache_dir: str | None = None) -> None:
        parent = registry.cache_dir(cache_dir)
        self.folder = parent / f"photos-v{VERSION}"
        manifest = _read_manifest(self.folder)
        if manifest is None:
            try:
                parent.mkdir(parents=True, exist_ok=True)
                with FileLock(parent / f"{self.folder.name}.lock"):
                    manifest = _read_manifest(self.folder) or _build(self.folder)
            except OSError as error:
                raise UsageError(
                    f"photos: cannot write the cache folder {self.folder} ({error}). "
                    "Set DEHAZE_BENCH_CACHE (or testset.cache_dir) to a folder that can be written."
                ) from error
        made_with = manifest["decoder"]
        self.decoder = decoder() if made_with == decoder() else f"{decoder()} (pictures made with {made_with})"

    def __len__(self) -> int:
        return len(_RECIPES)

    def __getitem__(self, index: int) -> TestPair:
        name = _RECIPES[index].name
        hazy, clear = (read_image(self.folder / f"{name}_{kind}.png") for kind in ("hazy", "clear"))
        return TestPair(name, to_tensor(hazy), to_tensor(clear))


def _signature() -> str:
    return hashlib.sha256(repr((VERSION, [astuple(recipe) for recipe in _RECIPES])).encode()).hexdigest()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_manifest(folder: Path) -> dict | None:
    """Return the manifest of a cache that is whole and current, else None."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        if manifest["recipe"] != _signature() or len(manifest["files"]) != 2 * len(_RECIPES):
            return None
        return manifest if all(_digest(folder / file) == sha for file, sha in manifest["files"].items()) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _build(folder: Path) -> dict:
    """Make all pairs in a new folder and put it in the place of `folder`."""
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        files: dict[str, str] = {}
        for recipe in _RECIPES:
            clear, hazy = make_pair(recipe)
            for kind, pixels in (("clear", clear), ("hazy", hazy)):
                file = f"{recipe.name}_{kind}.png"
                write_image(made / file, pixels)
                files[file] = _digest(made / file)
        manifest = {"recipe": _signature(), "decoder": decoder(), "files": files}
        (made / "manifest.json").write_text(json.dumps(manifest, indent=1))
        made.chmod(0o755)
        old = made.with_suffix(".old")
        if folder.exists():
            folder.rename(old)
        made.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        return manifest
    finally:
        shutil.rmtree(made, ignore_errors=True)


def make_pair(recipe: _Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Return the clear and the hazy picture of one row, uint8 (H, W, 3)."""
    top, left, height, width = recipe.window
    window = np.s_[top : top + height, left : left + width]
    clear = read_image(_bundled(recipe.file))[window]
    stereo = recipe.file.startswith("motorcycle")
    depth = _stereo_depth()[window] if stereo else _made_up_depth(height, width, recipe)
    hazy = add_haze(clear.transpose(2, 0, 1), transmit(depth, recipe.beta), recipe.airlight).transpose(1, 2, 0)
    return _to_bytes(clear), _to_bytes(hazy)


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _bundled(file: str) -> Path:
    """Find a file of scikit-image's data folder without importing the package."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("photos: scikit-image, whose photographs are used, is missing. pip install scikit-image.")
    path = Path(spec.submodule_search_locations[0]) / "data" / file
    if not path.is_file():
        raise UsageError(f"photos: {path} is missing. Install scikit-image from its wheel, which holds it.")
    return path


def _stereo_depth() -> np.ndarray:
    """Return metres (H, W): Z = f b / (d + offset); holes of the disparity take the nearest known value."""
    from scipy.ndimage import distance_transform_edt  # only when the cache is built

    with np.load(_bundled("motorcycle_disp.npz")) as archive:
        disparity = archive[archive.files[0]].astype(np.float64)
    rows, columns = distance_transform_edt(~np.isfinite(disparity), return_distances=False, return_indices=True)
    return (_FOCAL * _BASELINE / (disparity[rows, columns] + _OFFSET)).astype(np.float32)


def _made_up_depth(height: int, width: int, recipe: _Recipe) -> np.ndarray:
    """Return a receding plane plus six slow, weak cosines, scaled to [near, 1]."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    angle = np.deg2rad(recipe.slant)
    field = np.cos(angle) * x - np.sin(angle) * y
    # Raw words of the bit generator: their stream is fixed for good, unlike that of the distributions.
    draws = np.random.PCG64(recipe.bumps).random_raw(18).reshape(6, 3) / 2.0**64
    for direction, frequency, phase in draws:
        turn = 2 * np.pi * direction
        wave = (np.cos(turn) * x + np.sin(turn) * y) * (0.6 + 0.9 * frequency) + phase
        field = field + 0.04 * np.cos(2 * np.pi * wave)
    field = (field - field.min()) / (field.max() - field.min())
    return (recipe.near + (1 - recipe.near) * field).astype(np.float32)

"""The pictures of a report: each once, under a name made of its content, with thumbnails and error maps.

Shapes: H height, W width. Runs on one test set share their hazy and clear pictures, so the report has those once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from dehaze_bench.results.store import StoredRun

Levels = npt.NDArray[np.uint8]
ErrorMap = Callable[[Levels, Levels], Levels]

FULL, THUMBS, ERRORS = "pictures", "thumbs", "errors"
THUMB_WIDTH = 320
WORKERS = min(8, os.cpu_count() or 1)
DECODED = 24  # pictures kept: the clear ones of a test set come again with every run
# Beside the restored pictures of a test set lie, under the same names, those that it was made from.
HAZY, CLEAR = "hazy", "clear"


@dataclass(frozen=True)
class Shown:
    """One test image as a run saw it: paths below the report, empty where the run has kept no such picture."""

    name: str
    width: int
    height: int
    restored: str
    hazy: str
    clear: str
    error: str
    thumb: str


class Album:
    """Collects pictures into the folder of a report; what is there already is not made again."""

    def __init__(self, out: Path, error_map: ErrorMap) -> None:
        self.out = out
        self.files: set[str] = set()
        self._error_map = error_map
        self._pool = ThreadPoolExecutor(WORKERS)  # decoding and encoding leave the interpreter free

    def collect(self, run: StoredRun, problems: list[str]) -> list[Shown]:
        """Take over the pictures of a run, by name; one that cannot be read is a problem and left out."""
        pending = [(base, name, self._pool.submit(self._take, base, name)) for base, name in _restored(run)]
        found = []
        for base, name, future in pending:
            try:
                found.append(future.result())
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                problems.append(f"{base / f'{name}.png'}: cannot be shown: {error}")
        return found

    def _take(self, base: Path, name: str) -> Shown:
        restored = base / f"{name}.png"
        hazy, clear = base / HAZY / f"{name}.png", base / CLEAR / f"{name}.png"
        stem = _hash(restored)
        error = ""
        thumb = self._make(f"{THUMBS}/{stem}.webp", lambda: _shrink(_read(restored)))
        if clear.is_file():
            error = f"{ERRORS}/{stem[:16]}{_hash(clear)[:16]}.jpg"
            self._make(error, lambda: _draw_error(_read(restored), _read(clear), self._error_map))
        with Image.open(restored) as picture:
            width, height = picture.size
        return Shown(name, width, height, self._link(restored), self._link(hazy), self._link(clear), error, thumb)

    def _link(self, path: Path) -> str:
        if not path.is_file():
            return ""
        name = f"{FULL}/{_hash(path)}{path.suffix}"
        target = self.out / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, target)
            except FileExistsError:  # two runs with one picture, taken at once
                pass
            except OSError:  # another file system, or one without links
                shutil.copyfile(path, target)
        self.files.add(name)
        return name

    def _make(self, name: str, make: Callable[[], Image.Image]) -> str:
        target = self.out / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
            if target.suffix == ".jpg":  # ten times as fast at this size; without subsampling colours stay sharp
                make().save(temporary, format="JPEG", quality=85, subsampling=0)
            else:
                make().save(temporary, format="WEBP", quality=80, method=2)
            temporary.replace(target)
        self.files.add(name)
        return name


def _restored(run: StoredRun) -> Iterator[tuple[Path, str]]:
    """The folder of a test set and the name of each picture that the run restored, sorted."""
    if run.record is None:
        return
    base = run.path / "images" / run.record.evaluation.testset
    if not base.resolve().is_relative_to(run.path.resolve()):  # a record that names other people's folders
        return
    for path in sorted(base.rglob("*.png")):
        parts = path.relative_to(base).parts
        if path.is_file() and not (len(parts) > 1 and parts[0] in (HAZY, CLEAR)):
            yield base, path.relative_to(base).as_posix().removesuffix(".png")


@lru_cache(maxsize=4096)
def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


@lru_cache(maxsize=DECODED)
def _read(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def _shrink(picture: Image.Image) -> Image.Image:
    height = max(1, round(picture.height * THUMB_WIDTH / picture.width))
    return picture if picture.width <= THUMB_WIDTH else picture.resize((THUMB_WIDTH, height), Image.Resampling.LANCZOS)


def _draw_error(restored: Image.Image, clear: Image.Image, error_map: ErrorMap) -> Image.Image:
    if restored.size != clear.size:
        raise ValueError(f"it has {restored.size} pixels and the clear picture {clear.size}")
    return Image.fromarray(error_map(np.asarray(restored), np.asarray(clear)))

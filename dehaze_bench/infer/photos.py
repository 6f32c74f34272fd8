"""Restore photos and folders: read what cameras write, keep going past broken files, write PNG.

Shapes: T frames, C channel, H height, W width.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from dehaze_bench.data.clips import cut_evenly
from dehaze_bench.engine.clips import takes_clips
from dehaze_bench.errors import BenchError, UsageError
from dehaze_bench.infer.clips import restore_clip
from dehaze_bench.infer.ensemble import restore_ensemble
from dehaze_bench.infer.pad import multiple_of, restore
from dehaze_bench.infer.picture import Picture, read_picture, to_8bit, write_png
from dehaze_bench.infer.tiling import check_tile, restore_tiled

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
CLIP = 5


@dataclass(frozen=True)
class PhotoResult:
    """What became of one photo: `target` is None where it failed and `error` says why.

    `notes` says what of the photo is not in the result, for example an alpha channel.
    """

    source: Path
    target: Path | None
    error: str | None
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Summary:
    """All photos in order, and the files of the folder that are no photos (`ignored`)."""

    results: tuple[PhotoResult, ...]
    ignored: tuple[Path, ...]

    @property
    def done(self) -> list[PhotoResult]:
        return [result for result in self.results if result.error is None]

    @property
    def failed(self) -> list[PhotoResult]:
        return [result for result in self.results if result.error is not None]


def restore_folder(
    model: nn.Module,
    source: Path,
    out: Path,
    tile: int | None = None,
    overlap: int = 32,
    *,
    device: torch.device | str,
    frames: int | None = None,
    side_by_side: bool = False,
    ensemble: bool = False,
    on_progress: Callable[[int, int, PhotoResult], None] | None = None,
) -> Summary:
    """Restore a photo or every photo of a folder into PNG files under `out`, and say what became of each.

    A file keeps its stem; where two photos share one, both keep their whole name before ".png". For a single
    photo `out` may be a path that ends in .png. A network of clips takes the photos for the frames of a video in
    order of name and sees up to `frames` at once (5), cut as evenly as in a test set; frames of another size
    begin another clip. `side_by_side` also writes hazy and restored next to each other under
    `out`/side_by_side. `ensemble` averages over the eight symmetries of a photo.
    `on_progress(done, total, result)` is called after each photo. A photo that cannot be read, restored or
    written is reported in the summary and the rest goes on. Raises UsageError for a missing path, a folder
    without photos, results that would overwrite their sources, an unusable tile, and `frames` for a network that
    sees one picture at a time.
    """
    photos, ignored = find_photos(source)
    targets = name_targets(photos, source, out)
    multiple = multiple_of(model)
    if tile is not None:
        check_tile(tile, overlap, multiple)
    size = _clip_size(model, frames)

    def restore_one(images: Tensor) -> Tensor:
        if tile is not None:
            return restore_tiled(model, images, tile, overlap, device=device)
        return (restore if images.ndim == 3 else restore_clip)(model, images, device=device)

    def restore_images(images: Tensor) -> Tensor:
        return restore_ensemble(restore_one, images) if ensemble else restore_one(images)

    fewer = f" or frames={size // 2}" if size > 1 else ""
    too_large = f"out of memory on {device}: set tile={_smaller_tile(tile, multiple)}{fewer}"
    results: list[PhotoResult] = []
    for window in cut_evenly(len(photos), size):
        jobs = [
            _Job(photo, target, target.parent / "side_by_side" / target.name if side_by_side else None)
            for photo, target in zip(photos[window], targets[window], strict=True)
        ]
        for result in _restore_window(restore_images, jobs, takes_clips(model), too_large):
            results.append(result)
            if on_progress is not None:
                on_progress(len(results), len(photos), result)
    return Summary(tuple(results), tuple(ignored))


def _clip_size(model: nn.Module, frames: int | None) -> int:
    if frames is None:
        return CLIP if takes_clips(model) else 1
    if not takes_clips(model):
        raise UsageError(f"frames={frames} is for networks of clips; {type(model).__name__} sees one picture: drop it.")
    if frames < 1:
        raise UsageError(f"frames={frames} must be at least 1.")
    return frames


def find_photos(source: Path) -> tuple[list[Path], list[Path]]:
    """Return (photos, other files) of a folder in order of name; hidden files are left out."""
    if source.is_file():
        if source.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{source} is not a photo by its name. Known endings: {' '.join(SUFFIXES)}.")
        return [source], []
    if not source.is_dir():
        raise UsageError(f"There is no photo or folder at {source}: give the path of one.")
    files = sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
    photos = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not photos:
        raise UsageError(f"Folder {source} holds no photo. Known endings: {' '.join(SUFFIXES)}.")
    return photos, [path for path in files if path not in photos]


def name_targets(photos: list[Path], source: Path, out: Path) -> list[Path]:
    """Return one PNG path per photo; raises UsageError where two would collide or a source be overwritten."""
    if source.is_file() and out.suffix.lower() == ".png" and not out.is_dir():
        targets = [out]
    elif out.is_file() or (source.is_file() and out.suffix.lower() in SUFFIXES):
        raise UsageError(f"Results are PNG: {out} must be a folder, or end in .png for a single photo.")
    else:
        stems = Counter(photo.stem for photo in photos)
        targets = [out / f"{photo.stem if stems[photo.stem] == 1 else photo.name}.png" for photo in photos]
    twice = [name for name, count in Counter(target.name for target in targets).items() if count > 1]
    if twice:
        raise UsageError(f"Two photos of {source} would both become {twice[0]}: rename one of them.")
    sources = {photo.resolve() for photo in photos}
    for target in targets:
        if target.resolve() in sources:
            raise UsageError(f"{target} would overwrite its own source: give another folder for the results.")
    return targets


@dataclass
class _Job:
    photo: Path
    target: Path
    pair: Path | None
    picture: Picture | None = None
    error: str | None = None


def _restore_window(
    restore_images: Callable[[Tensor], Tensor], jobs: list[_Job], as_clip: bool, too_large: str
) -> Iterator[PhotoResult]:
    """Restore photos that are seen together, but those that cannot be read, and yield a result for each in order."""
    start = time.perf_counter()
    for job in jobs:
        job.error = _attempt(too_large, _read, job)
    for _, group in groupby((job for job in jobs if job.picture is not None), key=_size):
        clip = list(group)
        error = _attempt(too_large, _restore_clip, restore_images, clip, as_clip, too_large)
        for job in clip:
            job.error = job.error or error
    seconds = (time.perf_counter() - start) / len(jobs)
    for job in jobs:
        target = job.target if job.error is None else None
        notes = () if job.picture is None else job.picture.notes
        yield PhotoResult(source=job.photo, target=target, error=job.error, notes=notes, seconds=seconds)


def _read(job: _Job) -> None:
    job.picture = read_picture(job.photo)


def _size(job: _Job) -> tuple[int, ...]:
    assert job.picture is not None
    return tuple(job.picture.image_CHW.shape)


def _restore_clip(restore_images: Callable[[Tensor], Tensor], clip: list[_Job], as_clip: bool, too_large: str) -> None:
    pictures = [job.picture for job in clip if job.picture is not None]
    images = torch.stack([picture.image_CHW for picture in pictures])
    restored_TCHW = restore_images(images) if as_clip else restore_images(images[0])[None]
    for job, picture, restored_CHW in zip(clip, pictures, restored_TCHW, strict=True):
        job.error = _attempt(too_large, _write, restored_CHW, picture, job.target, job.pair)


def _attempt(too_large: str, act: Callable[..., None], *given: Any) -> str | None:
    """Return None, or the words for why reading, restoring or writing failed."""
    try:
        act(*given)
    except BenchError as reason:
        return str(reason)
    except UnidentifiedImageError:
        return "not a readable image"
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as reason:
        return f"cannot be read or written: {reason}"
    except (RuntimeError, MemoryError) as reason:
        # On a CPU torch has no class of its own for this.
        if isinstance(reason, RuntimeError) and "memory" not in str(reason):
            raise
        return too_large
    return None


def _write(restored_CHW: Tensor, picture: Picture, target: Path, pair: Path | None) -> None:
    if not torch.isfinite(restored_CHW).all():
        raise ValueError("the network returned values that are not finite")
    write_png(to_8bit(restored_CHW), target, picture.icc_profile)
    if pair is not None:
        both_CHW = torch.cat((picture.image_CHW, restored_CHW), dim=-1)
        write_png(to_8bit(both_CHW), pair, picture.icc_profile)


def _smaller_tile(tile: int | None, multiple: int) -> int:
    wanted = 512 if tile is None else tile // 2
    return max(wanted // multiple, 1) * multiple

"""Read one picture as RGB floats and write one as PNG.

Shapes: C channel, H height, W width.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor


@dataclass(frozen=True)
class Picture:
    """A picture upright in RGB: float32 in [0, 1]. `notes` says what of the file is not in it."""

    image_CHW: Tensor
    icc_profile: bytes | None
    notes: tuple[str, ...]


def read_picture(path: Path) -> Picture:
    """Return the picture at `path`, turned upright as its EXIF orientation says.

    Alpha is dropped with a note (haze has no transparency to restore), further frames and pages as well.
    16-bit greyscale keeps its depth. Raises OSError or ValueError for what Pillow cannot decode.
    """
    notes: list[str] = []
    with Image.open(path) as opened:
        num_frames = int(getattr(opened, "n_frames", 1))
        if num_frames > 1:
            notes.append(f"only the first of {num_frames} frames")
        opened.load()
        upright = ImageOps.exif_transpose(opened)
    if upright.has_transparency_data:
        notes.append("alpha dropped")
    icc_profile = upright.info.get("icc_profile") if upright.mode in ("RGB", "RGBA") else None
    if upright.mode.startswith("I"):
        grey_HW = np.asarray(upright).astype(np.float32) / 65535.0
        if grey_HW.min() < 0 or grey_HW.max() > 1:
            raise ValueError("32-bit values beyond 16 bits: convert it to an 8- or 16-bit picture")
        rgb_HWC = np.repeat(grey_HW[..., None], 3, axis=-1)
    elif upright.mode == "F":
        raise ValueError("floating-point picture of unknown range: convert it to an 8- or 16-bit picture")
    else:
        rgb_HWC = np.asarray(upright.convert("RGB"), dtype=np.float32) / 255.0
    image_CHW = torch.from_numpy(np.ascontiguousarray(rgb_HWC.transpose(2, 0, 1)))
    return Picture(image_CHW, icc_profile, tuple(notes))


def to_8bit(image_CHW: Tensor) -> np.ndarray:
    """Return the image as uint8 (H, W, 3): clamped to [0, 1], times 255, rounded half to even."""
    levels_CHW = (image_CHW.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
    return np.ascontiguousarray(levels_CHW.permute(1, 2, 0).cpu().numpy())


def write_png(levels_HWC: np.ndarray, path: Path, icc_profile: bytes | None = None) -> None:
    """Write an 8-bit PNG under a temporary name and rename it, so that `path` is never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            Image.fromarray(levels_HWC).save(stream, format="PNG", icc_profile=icc_profile)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

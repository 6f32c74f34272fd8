"""A hazy picture and its clear twin, and the one decoder that reads them from disk.

Every picture is decoded with Pillow: JPEG decoders disagree by up to 2.6 dB on SOTS-outdoor, so the name and
version of the decoder belong to a result. Pixels are taken as stored: no colour management and no EXIF
rotation.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image, features

from dehaze_bench.data.haze import Veil
from dehaze_bench.errors import UsageError

SUFFIXES = (".png", ".jpg", ".jpeg")
_CONVERSIONS = {
    "L": "grey repeated in three channels",
    "1": "black and white repeated in three channels",
    "LA": "grey repeated in three channels, alpha dropped",
    "RGBA": "alpha dropped, colours kept as stored",
    "P": "palette looked up",
    "CMYK": "CMYK turned to RGB by Pillow",
}
_log = logging.getLogger(__name__)
_told: set[tuple[str, Path]] = set()


@dataclass(frozen=True)
class Sample:
    """One training crop: arrays (3, size, size), uint8 levels or float32 in [0, 1]; they may be views.

    Under a `veil`, `hazy` is the clear picture still.
    """

    name: str
    hazy: np.ndarray
    clear: np.ndarray
    veil: Veil | None = None


@dataclass(frozen=True)
class TestPair:
    """One test picture: float32 tensors (3, H, W) in [0, 1]; `clear` is None without ground truth."""

    __test__ = False  # pytest must not collect it

    name: str
    hazy: torch.Tensor
    clear: torch.Tensor | None


def decoder() -> str:
    """Return name and version of the decoder and of the JPEG library that it was built with, as results record them."""
    turbo = features.version("libjpeg_turbo") if features.check("libjpeg_turbo") else None
    jpeg = f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"
    return f"Pillow {PIL.__version__}, {jpeg}"


def read_size(path: Path) -> tuple[int, int]:
    """Return (height, width) from the file header, without decoding; UsageError if it is not a picture."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, SyntaxError, ValueError) as error:
        raise _undecodable(path, error) from error


def read_image(path: Path) -> np.ndarray:
    """Decode a PNG or JPEG to float32 RGB (H, W, 3) in [0, 1]; conversions and errors as in `read_pixels`."""
    return read_pixels(path).astype(np.float32) / np.float32(255)


def read_pixels(path: Path, data: bytes | None = None) -> np.ndarray:
    """Decode a PNG or JPEG to uint8 RGB (H, W, 3), from `data` where the bytes of the file are at hand.

    Grey, palette and alpha pictures are converted to three channels, with one warning per folder that says
    how. Raises UsageError, which names the file, if it is missing, truncated, not a picture, or of a mode
    that has no 8-bit RGB meaning (16 bit, float).
    """
    try:
        with Image.open(path if data is None else io.BytesIO(data)) as image:
            image.load()
            mode = image.mode
            if mode != "RGB":
                if mode not in _CONVERSIONS:
                    raise UsageError(
                        f"{path}: found pixel mode '{mode}', expected 8-bit RGB "
                        f"(or {', '.join(_CONVERSIONS)}, which are converted). Save it as an 8-bit RGB PNG."
                    )
                _tell(mode, path)
            return np.asarray(image if mode == "RGB" else image.convert("RGB"), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError) as error:
        raise _undecodable(path, error, data) from error


def to_planes(pixels: np.ndarray) -> np.ndarray:
    """Turn uint8 (H, W, 3) into contiguous float32 (3, H, W) in [0, 1]."""
    return to_unit(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def to_unit(levels: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Turn uint8 levels into float32 in [0, 1]; what is float32 already stays as it is, or is copied to `out`."""
    if levels.dtype == np.uint8:
        return np.divide(levels, np.float32(255), out=out, dtype=np.float32)
    if out is None:
        return levels
    out[...] = levels
    return out


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 RGB (H, W, 3) as PNG."""
    Image.fromarray(pixels).save(path, format="PNG")


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Turn (H, W, 3) float32 into a contiguous (3, H, W) tensor."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _tell(mode: str, path: Path) -> None:
    if (mode, path.parent) not in _told:
        _told.add((mode, path.parent))
        _log.warning("%s: %s picture converted to RGB (%s); said once per folder", path, mode, _CONVERSIONS[mode])


def _undecodable(path: Path, error: Exception, data: bytes | None = None) -> UsageError:
    if isinstance(error, FileNotFoundError):
        return UsageError(f"{path}: the file is missing. Restore it, or take its name out of the folder.")
    if data is not None and not path.exists():
        return UsageError(f"{path}: {decoder()} cannot decode its {len(data)} packed bytes ({error}).")
    if not path.is_file():
        return UsageError(f"{path}: expected a PNG or JPEG file, found something else ({error}).")
    return UsageError(
        f"{path}: expected a whole PNG or JPEG, found {path.stat().st_size} bytes that {decoder()} "
        f"cannot decode ({error}). The file is truncated or damaged: copy or download it again."
    )

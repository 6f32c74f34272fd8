"""Reading and atomic writing of small text files.

A reader sees either the old file, the new file or none, never half of one. JSON stays strict: a non-finite
number (PSNR of two equal images is infinite) becomes the string "inf", "-inf" or "nan", which `Fields.number`
reads back.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dehaze_bench.errors import UsageError
from dehaze_bench.redaction import redact


def write_json_atomic(path: Path, obj: object) -> None:
    """Write `obj` as indented, strict JSON; see `write_text_atomic`."""
    write_text_atomic(path, json.dumps(strict(obj), indent=2, allow_nan=False) + "\n")


def write_text_atomic(path: Path, text: str) -> None:
    """Replace `path` in one step: temporary file beside it, flush to disk, rename, flush the directory.

    A crash at any moment leaves the old content (or no file), at worst with a stray `.<name>.*.tmp`.
    Keys and passwords are masked.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "x", encoding="utf-8", newline="") as out:
            out.write(redact(text))
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    with suppress(OSError):  # not every file system lets a directory be opened or flushed
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_text(path: Path) -> str:
    """Read a UTF-8 file; raises UsageError naming it when that is impossible."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error


def read_json(path: Path) -> object:
    """Parse a JSON file; raises UsageError naming it when it is unreadable or malformed."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}: not valid JSON: {error}") from error


def strict(obj: object) -> object:
    """Plain data that strict JSON can hold: see above for numbers that are not finite."""
    if isinstance(obj, float) and not math.isfinite(obj):
        return str(obj)
    if isinstance(obj, Mapping):
        return {str(key): strict(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [strict(value) for value in obj]
    return obj

"""Checkpoint files: written so that a kill at any moment, a full disk or a bad block never costs the last good one.

`last.pt` is what a resume reads, `previous.pt` the one before it. A new file is written beside them, flushed, read back
from the disk and proved by the hash that it carries; only then does it take the place of the last one, which takes that
of the previous one. A reader proves the hash too, so that a torn, altered or foreign file is found before it is used.
Files are read by torch's restricted loader: they hold tensors and plain values, and run nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dehaze_bench.errors import JobError

LAST, PREVIOUS = "last.pt", "previous.pt"
SCHEMA = 2
_PARTIAL = ".last.pt.tmp"  # one name: whoever holds the run's lock writes over what a kill left
_KEPT = re.compile(r"step-(\d{8})\.pt")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Keep:
    """Which checkpoints stay besides the last two: those of every `every`-th step, the newest `count` of them."""

    every: int | None = None
    count: int = 3


def save(folder: Path, run_id: str, values: Mapping[str, Any], keep: Keep | None = None) -> Path:
    """Write the state of a run, which holds "step", as its last checkpoint, and return the path.

    Raises `JobError` for a file that does not read back as it was written, and `OSError` as the disk does; the last
    checkpoint is then as it was.
    """
    content = {"schema": SCHEMA, "id": run_id, **_on_cpu(dict(values))}
    content["sha256"] = digest(content)
    partial, last = folder / _PARTIAL, folder / LAST
    try:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
            _forget_cached(file.fileno())
        if digest(_load(partial)) != content["sha256"]:
            raise JobError(
                f"The checkpoint of step {content['step']} did not read back from {folder} as it was written: the disk "
                f"or the memory is at fault. The one before it is intact; move the run to another disk."
            )
        if last.exists():
            _give_name(last, folder / PREVIOUS)
        partial.replace(last)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    if keep is not None and keep.every is not None and content["step"] % keep.every == 0:
        _give_name(last, folder / f"step-{content['step']:08d}.pt")
        for old in kept(folder)[: -keep.count]:
            old.unlink(missing_ok=True)
    _flush_folder(folder)
    return last


def choose(folder: Path, run_id: str) -> tuple[Path, int] | None:
    """Return the checkpoint to go on from and its step; None where there is none.

    A file that cannot be used is named in one warning and moved aside, and the previous one is taken. Raises `JobError`
    where no file can be used.
    """
    faults: list[str] = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            step = int(read(path, run_id)["step"])
        except JobError as error:
            faults.append(str(error))
            continue
        if faults:
            aside = folder / f"{LAST}.damaged"
            (folder / LAST).replace(aside)
            _LOG.warning("%s It is now %s; the run goes on from %s, step %d.", faults[0], aside.name, path, step)
        return path, step
    if not faults:
        return None
    others = "".join(f" Or rename {path.name} to {LAST}." for path in kept(folder)[-1:])
    raise JobError(f"{' '.join(faults)} Delete {_names(folder)} to start this run from step 0.{others}")


def read(path: Path, run_id: str) -> dict[str, Any]:
    """Return the content of a checkpoint; raises `JobError` for one that is torn, altered or of another run."""
    try:
        content = _load(path)
        found, written = content["id"], content["sha256"]
    except Exception as error:  # torch raises many kinds for a damaged file
        raise JobError(f"The checkpoint {path} cannot be read ({type(error).__name__}).") from error
    if found != run_id:
        raise JobError(f"The checkpoint {path} belongs to run {found}, not {run_id}.")
    if content.get("schema") != SCHEMA or digest(content) != written:
        raise JobError(f"The checkpoint {path} cannot be read: its content is not what was written.")
    return content


def describe_last(folder: Path) -> str:
    """Return a sentence on what a new start goes on from."""
    if not (folder / LAST).exists():
        return "No checkpoint was saved yet."
    for _ in range(2):  # torch tells of a lost data worker when its signal comes, and that may be in here
        with contextlib.suppress(Exception):
            return f"The last checkpoint, of step {_load(folder / LAST)['step']}, is intact."
    return "The last checkpoint cannot be read."


def kept(folder: Path) -> list[Path]:
    """Return the checkpoints of every n-th step that are there, oldest first."""
    return sorted(path for path in folder.glob("step-*.pt") if _KEPT.fullmatch(path.name))


def digest(value: Any) -> str:
    """Return the SHA-256 of nested mappings, sequences, tensors and plain values, without an entry "sha256" on top."""
    found = hashlib.sha256()
    _feed(found, {k: v for k, v in value.items() if k != "sha256"} if isinstance(value, Mapping) else value)
    return found.hexdigest()


def _feed(found: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        found.update(f"tensor {value.dtype} {tuple(value.shape)}:".encode())
        if value.numel():
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, Mapping):
        for key, item in value.items():
            found.update(f"{key!r}=".encode())
            _feed(found, item)
        found.update(b"}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            _feed(found, item)
        found.update(b"]")
    else:
        found.update(f"{value!r};".encode())


def _load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return content


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: _on_cpu(item) for key, item in value.items()}
    return type(value)(_on_cpu(item) for item in value) if isinstance(value, (list, tuple)) else value


def _give_name(path: Path, other: Path) -> None:
    """Let a file have another name as well, which may have been that of an older file."""
    partial = other.with_name(f".{other.name}.tmp")
    partial.unlink(missing_ok=True)
    try:
        os.link(path, partial)
    except OSError:  # a file system without hard links
        shutil.copy2(path, partial)
    partial.replace(other)


def _forget_cached(descriptor: int) -> None:
    """Have the system drop its copy of a flushed file, so that reading it back asks the disk."""
    with contextlib.suppress(OSError, AttributeError):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _flush_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system lets a directory be opened or flushed
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _names(folder: Path) -> str:
    return " and ".join(str(path) for path in (folder / LAST, folder / PREVIOUS) if path.exists())

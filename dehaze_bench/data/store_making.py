"""Packing a set: shard by shard, each written beside its place, flushed and renamed, then entered in the manifest.

The manifest is the journal: whenever the program is killed, whole shards are kept, and the next call goes on. It also
compares each kept shard with its checksum and writes damaged ones again, so packing twice is a check.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.numpy import save_file

from dehaze_bench.data.pairs import decoder, read_pixels, read_size
from dehaze_bench.data.store import (
    FORMAT,
    MANIFEST,
    VERSION,
    Entry,
    Manifest,
    Shard,
    find_damage,
    read_manifest,
)
from dehaze_bench.digest import hash_file
from dehaze_bench.errors import JobError, UsageError

SHARD_BYTES = 64 * 2**20
Progress = Callable[[int, int], None]  # pictures done, of so many


@dataclass(frozen=True)
class Packed:
    """What packing did: `kept` of `shards` were there, `damaged` says what was found wrong and replaced."""

    pictures: int
    shards: int
    kept: int
    bytes: int
    damaged: tuple[str, ...]


def pack(
    name: str,
    folder: Path,
    base: Path,
    layout: str,
    split: str | None,
    names: Sequence[str],
    hazy: Sequence[Path],
    clear: Sequence[Path] | None,
    *,
    keep_jpeg: bool,
    workers: int = 1,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = lambda done, of: None,
) -> Packed:
    """Pack the pictures of a set into `folder`, or finish, check and mend what is there.

    Args:
        name: of the set, for messages.
        base: the folder of the set; tensors are named after paths relative to it.
        layout, split: how the set was found, for the record.
        names, hazy, clear: its pairs.
        keep_jpeg: keep the bytes of JPEG files instead of their pixels, which take ten times the room.
        workers: threads; each holds one shard in memory.

    Raises UsageError for a picture that cannot be read, JobError if the folder is in use or cannot be written.
    """
    key = {path: Path(os.path.relpath(path, base)).as_posix() for path in [*hazy, *(clear or [])]}
    sources = {key[path]: path for path in sorted(set(key))}
    pairs = tuple(
        (n, key[h], None if clear is None else key[c])
        for n, h, c in zip(names, hazy, hazy if clear is None else clear, strict=True)
    )
    with locked(folder):
        planned = _plan(sources, keep_jpeg, shard_bytes)
        inside = folder.resolve().is_relative_to(base.resolve())
        where = Path(os.path.relpath(folder.resolve(), base.resolve())) if inside else None
        at = str(base.resolve()) if where is None else Path(*[".."] * len(where.parts)).as_posix()
        manifest = Manifest(name, at, layout, split, decoder(), False, pairs, ())
        return _write(folder, manifest, planned, sources, workers, progress)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Make a file in one step: `write` a temporary one beside it, flush it to disk, rename it, flush the folder."""
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        write(temporary)
        descriptor = os.open(temporary, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError | SafetensorError):
            raise JobError(
                f"{path} cannot be written: {error}. Free some room, or give another place by --out."
            ) from error
        raise
    with suppress(OSError):  # not every file system lets a folder be opened or flushed
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against a second writer, and clear away what a killed one left half written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        with lock:
            for stray in folder.glob(".*.tmp"):
                stray.unlink()
            yield
    except Timeout:
        raise JobError(f"{folder} is being written by another process. Wait for it, or stop it.") from None
    except PermissionError as error:
        raise JobError(f"{folder} cannot be written: {error}. Give another place by --out DIR.") from error


def _plan(sources: dict[str, Path], keep_jpeg: bool, shard_bytes: int) -> list[list[Entry]]:
    """Distribute the pictures over shards: in order of their names, so that every call finds the same."""
    shards: list[list[Entry]] = [[]]
    room = shard_bytes
    for path, file in sources.items():
        height, width = read_size(file)
        found = file.stat()
        encoded = keep_jpeg and file.suffix.lower() != ".png"
        entry = Entry(path, "encoded" if encoded else "raw", height, width, found.st_size, found.st_mtime_ns)
        needed = found.st_size if encoded else height * width * 3
        if needed > room and shards[-1]:
            shards.append([])
            room = shard_bytes
        shards[-1].append(entry)
        room -= needed
    return shards


def _write(
    folder: Path,
    manifest: Manifest,
    planned: list[list[Entry]],
    sources: dict[str, Path],
    workers: int,
    progress: Progress,
) -> Packed:
    ready: dict[int, Shard] = {}
    damaged: list[str] = []
    files = [f"shard-{number:05d}.safetensors" for number in range(len(planned))]
    earlier = _earlier(folder)
    done, total = 0, sum(len(entries) for entries in planned)

    def enter(complete: bool) -> Manifest:
        found = replace(manifest, complete=complete, shards=tuple(ready[number] for number in sorted(ready)))
        write_whole(folder / MANIFEST, lambda temporary: _write_text(temporary, found.dump()))
        return found

    def keep(number: int) -> tuple[Shard | None, str | None]:
        old = earlier.get(files[number])
        same = None if old is None else _unchanged(old, planned[number], sources)
        wrong = None if same is None else find_damage(folder, same)
        return (None, wrong) if wrong else (same, None)

    def make(number: int) -> tuple[int, Shard]:
        return number, _make(folder / files[number], planned[number], sources)

    pool = ThreadPoolExecutor(max(1, workers))
    try:
        for number, (shard, wrong) in enumerate(pool.map(keep, range(len(planned)))):
            damaged += [wrong] if wrong else []
            if shard is not None:
                ready[number] = shard
                progress(done := done + len(shard.pictures), total)
        kept = len(ready)
        lacking = [number for number in range(len(planned)) if number not in ready]
        if lacking:
            enter(complete=False)  # before a shard is replaced: until all are, nobody may read this copy
        for number, shard in pool.map(make, lacking):
            ready[number] = shard
            enter(complete=False)
            progress(done := done + len(shard.pictures), total)
    finally:
        pool.shutdown(cancel_futures=True)
    final = enter(complete=True)
    for stray in set(folder.glob("shard-*.safetensors")) - {folder / shard.file for shard in final.shards}:
        stray.unlink()
    return Packed(total, len(planned), kept, sum(s.bytes for s in final.shards), tuple(damaged))


def _earlier(folder: Path) -> dict[str, Shard]:
    """Return the shards that an earlier call entered; nothing if another decoder made them."""
    if not (folder / MANIFEST).is_file():
        return {}
    try:
        found = read_manifest(folder)
    except UsageError:
        return {}
    return {shard.file: shard for shard in found.shards} if found.decoder == decoder() else {}


def _unchanged(old: Shard, planned: list[Entry], sources: dict[str, Path]) -> Shard | None:
    """Return the old shard with new times if it holds the same pictures; a file with a new time is read to see."""
    if len(old.pictures) != len(planned):
        return None
    for was, now in zip(old.pictures, planned, strict=True):
        if replace(was, mtime_ns=0, sha256="") != replace(now, mtime_ns=0):
            return None
        if was.mtime_ns != now.mtime_ns and hash_file(sources[now.path]) != was.sha256:
            return None
    entries = (replace(now, sha256=was.sha256) for was, now in zip(old.pictures, planned, strict=True))
    return replace(old, pictures=tuple(entries))


def _make(path: Path, planned: list[Entry], sources: dict[str, Path]) -> Shard:
    tensors: dict[str, np.ndarray] = {}
    entries: list[Entry] = []
    for entry in planned:
        source = sources[entry.path]
        data = source.read_bytes()
        pixels = read_pixels(source, data)  # of an encoded one too: a damaged file is found here, not in training
        if pixels.shape != (entry.height, entry.width, 3):
            raise UsageError(f"{source} changed while it was packed. Pack again when nothing writes to the set.")
        tensors[entry.path] = pixels if entry.kind == "raw" else np.frombuffer(data, np.uint8)
        entries.append(replace(entry, bytes=len(data), sha256=hashlib.sha256(data).hexdigest()))
    metadata = {"format": f"{FORMAT} {VERSION}"}  # one entry: the library writes several in any order
    found: list[tuple[int, str]] = []

    def write(temporary: Path) -> None:
        save_file(tensors, temporary, metadata)
        temporary.chmod(path.parent.stat().st_mode & 0o666)  # the library makes it readable by its owner only
        found.append((temporary.stat().st_size, hash_file(temporary)))

    write_whole(path, write)
    return Shard(path.name, *found[0], tuple(entries))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

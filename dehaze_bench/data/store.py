"""Packed pictures: safetensors shards from which a random crop reads only its rows, and the manifest beside them.

A packed copy is a folder: `manifest.json` and `shard-NNNNN.safetensors`. A tensor is named after the file it comes
from, relative to the base, the folder that holds the set. "raw" pictures are uint8 (H, W, 3), as decoded; "encoded"
ones are uint8 (N,), the bytes of the file. Shards are mapped into memory and read by slice; the pages belong to the
system's cache, shared by all workers. Checksums are looked at by `check`, not while training.
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError, safe_open

from dehaze_bench.data.pairs import decoder, read_pixels, read_size
from dehaze_bench.digest import hash_file
from dehaze_bench.errors import UsageError

VERSION = 1
FORMAT = "dehaze_bench packed pictures"
MANIFEST = "manifest.json"
OPEN_SHARDS = 32  # mapped at once by a process; bounds the pages that count as its memory

Pairing = tuple[str, list[str], list[Path], list[Path] | None]  # layout, names, hazy, clear


class Picture(Protocol):
    """Pixels that are read when they are sliced: `picture[top:bottom, left:right]` is a uint8 array."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, window: tuple[slice, slice], /) -> np.ndarray: ...


class Source(Protocol):
    """Where pixels come from: the files, or a packed copy of them."""

    decoder: str
    reads_rows: bool  # what is sliced costs no more than copying it

    def size(self, path: Path) -> tuple[int, int]: ...

    def open(self, path: Path) -> Picture: ...


class Files:
    """The pictures themselves, decoded whole each time."""

    reads_rows = False

    def __init__(self) -> None:
        self.decoder = decoder()

    def size(self, path: Path) -> tuple[int, int]:
        """Return (height, width)."""
        return read_size(path)

    def open(self, path: Path) -> Picture:
        """Return the decoded picture; UsageError names a file that cannot be."""
        return read_pixels(path)


@dataclass(frozen=True)
class Entry:
    """One packed picture; `path` is relative to the base, `bytes`, `mtime_ns` and `sha256` are of its file."""

    path: str
    kind: str  # "raw" or "encoded"
    height: int
    width: int
    bytes: int
    mtime_ns: int
    sha256: str = ""


@dataclass(frozen=True)
class Shard:
    """One file of a packed copy."""

    file: str
    bytes: int
    sha256: str
    pictures: tuple[Entry, ...]


@dataclass(frozen=True)
class Manifest:
    """What a packed copy holds; `complete` is False while it is being made.

    `base` is the folder of the set, absolute or relative to the copy; a pair is name, hazy and clear path or None.
    """

    name: str
    base: str
    layout: str
    split: str | None
    decoder: str
    complete: bool
    pairs: tuple[tuple[str, str, str | None], ...]
    shards: tuple[Shard, ...]

    def dump(self) -> str:
        """Return it as JSON."""
        return json.dumps({"format": FORMAT, "version": VERSION} | asdict(self), indent=1) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a packed copy; UsageError if it is missing, damaged or of another version."""
    path = folder / MANIFEST
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT or not isinstance(found["version"], int):
            raise ValueError("no packed pictures")
        if found["version"] != VERSION:
            raise UsageError(
                f"{path} has version {found['version']}, this program reads version {VERSION}. "
                f"Delete {folder} and pack the set again: dehaze-bench data prepare NAME."
            )
        shards = tuple(
            Shard(s["file"], s["bytes"], s["sha256"], tuple(Entry(**e) for e in s["pictures"])) for s in found["shards"]
        )
        pairs = tuple((str(name), str(hazy), clear) for name, hazy, clear in found["pairs"])
        return Manifest(
            name=found["name"],
            base=found["base"],
            layout=found["layout"],
            split=found["split"],
            decoder=found["decoder"],
            complete=bool(found["complete"]),
            pairs=pairs,
            shards=shards,
        )
    except FileNotFoundError:
        raise UsageError(f"{folder} is no packed copy: it has no {MANIFEST}.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is damaged ({error}). Delete it and pack the set again: dehaze-bench data prepare NAME."
        ) from error


class Store:
    """A complete packed copy, opened for reading, by several threads if need be; it can be sent to a worker process.

    Raises UsageError when built if the copy is unfinished, or a shard is missing or of another length.
    """

    def __init__(self, folder: Path, open_shards: int = OPEN_SHARDS) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.manifest = read_manifest(self.folder)
        self.decoder = self.manifest.decoder
        self.open_shards = open_shards
        self.base = os.path.normpath(self.folder / self.manifest.base)
        if not self.manifest.complete:
            raise UsageError(
                f"{self.folder} is unfinished: packing was interrupted or is under way. "
                f"Finish it: dehaze-bench data prepare {self.manifest.name}."
            )
        for shard in self.manifest.shards:
            wrong = _wrong_length(self.folder, shard)
            if wrong:
                raise UsageError(f"{wrong} {self._remedy()}")
        self._entries = {
            os.path.join(self.base, *entry.path.split("/")): (number, entry)
            for number, shard in enumerate(self.manifest.shards)
            for entry in shard.pictures
        }
        self.reads_rows = all(entry.kind == "raw" for _, entry in self._entries.values())
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_lock": threading.Lock()}

    def __len__(self) -> int:
        return len(self._entries)

    def pairs(self, split: str | None = None) -> Pairing:
        """Return layout, names, hazy and clear paths, as found when the set was packed; the files may be gone.

        Raises UsageError where `split` is not the one that was packed.
        """
        if split not in (None, self.manifest.split):
            raise UsageError(f"{self.folder} was packed with split={self.manifest.split}, not split={split}.")
        hazy = [Path(self.base, h) for _, h, _ in self.manifest.pairs]
        clear = [Path(self.base, c) for _, _, c in self.manifest.pairs if c is not None]
        layout = f"packed {self.folder}, of {self.manifest.layout}"
        return layout, [name for name, _, _ in self.manifest.pairs], hazy, clear or None

    def is_at(self, folder: str | Path) -> bool:
        """Whether this folder is the copy itself."""
        return os.path.abspath(Path(folder).expanduser()) == str(self.folder)

    def holds(self, path: Path) -> bool:
        """Whether this picture is among those packed."""
        return os.path.abspath(path) in self._entries

    def size(self, path: Path) -> tuple[int, int]:
        """Return (height, width)."""
        entry = self._find(path)[1]
        return entry.height, entry.width

    def open(self, path: Path) -> Picture:
        """Return the picture: "raw" is read when it is sliced, "encoded" is decoded now."""
        number, entry = self._find(path)
        if entry.kind == "raw":
            return _Rows(self, number, entry)
        return read_pixels(path, self.slice(number, entry, np.s_[:]).tobytes())

    def slice(self, number: int, entry: Entry, window: slice | tuple[slice, slice]) -> np.ndarray:
        """Read a part of one tensor; only the pages on which it lies are touched."""
        try:
            part: np.ndarray = self._shard(number).get_slice(entry.path)[window]
        except (SafetensorError, OSError) as error:
            path = self.folder / self.manifest.shards[number].file
            raise UsageError(f"{path} is damaged: {entry.path} cannot be read ({error}). {self._remedy()}") from error
        return part

    def misfit(self, paths: Iterable[Path]) -> str | None:
        """Say why these files are not what was packed: one is missing here or newer, or decoded otherwise."""
        foreign = self.decoder != decoder()
        for path in paths:
            number_entry = self._entries.get(os.path.abspath(path))
            if number_entry is None:
                return f"it lacks {path}"
            entry = number_entry[1]
            found = os.stat(path)
            if found.st_size != entry.bytes or found.st_mtime_ns > entry.mtime_ns:
                return f"{path} has changed since"
            if foreign and entry.kind == "raw" and not entry.path.lower().endswith(".png"):
                return f"it holds JPEG files decoded by {self.decoder}, this is {decoder()}"
        return None

    def check(self) -> list[str]:
        """Compare every shard with its checksum; return what is wrong, naming the pictures. Reads everything."""
        return [text for shard in self.manifest.shards if (text := find_damage(self.folder, shard))]

    def _shard(self, number: int) -> Any:
        with self._lock:
            handle = self._open.get(number)
            if handle is None:
                handle = safe_open(self.folder / self.manifest.shards[number].file, framework="np")
                self._open[number] = handle
                while len(self._open) > self.open_shards:
                    self._open.popitem(last=False)
            self._open.move_to_end(number)
            return handle

    def _find(self, path: Path) -> tuple[int, Entry]:
        try:
            return self._entries[os.path.abspath(path)]
        except KeyError:
            raise UsageError(f"{self.folder} does not hold {path}. {self._remedy()}") from None

    def _remedy(self) -> str:
        return f"Pack again: dehaze-bench data prepare {self.manifest.name}; what is sound is kept."


class _Rows:
    """A raw picture of a store."""

    def __init__(self, store: Store, number: int, entry: Entry) -> None:
        self._store, self._number, self._entry = store, number, entry
        self.shape = (entry.height, entry.width, 3)

    def __getitem__(self, window: tuple[slice, slice], /) -> np.ndarray:
        return self._store.slice(self._number, self._entry, window)


def find_damage(folder: Path, shard: Shard) -> str | None:
    """Return what is wrong with a shard, or None: it is missing, of another length, or its SHA-256 differs."""
    wrong = _wrong_length(folder, shard)
    if wrong is None and hash_file(folder / shard.file) != shard.sha256:
        first, last = shard.pictures[0].path, shard.pictures[-1].path
        return (
            f"{folder / shard.file} is damaged: its SHA-256 is not that of the manifest. It holds "
            f"{len(shard.pictures)} pictures, {first} to {last}."
        )
    return wrong


def _wrong_length(folder: Path, shard: Shard) -> str | None:
    path = folder / shard.file
    if not path.is_file():
        return f"{path} is missing."
    found = path.stat().st_size
    return None if found == shard.bytes else f"{path} is damaged: it has {found} bytes, not {shard.bytes}."

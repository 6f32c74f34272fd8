"""In which of the shapes that people keep it in a data set lies under a root: whose habit, and which folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dehaze_bench.data.known import (
    CLEAR_ENDINGS,
    CLEAR_FOLDERS,
    HAZY_ENDINGS,
    HAZY_FOLDERS,
    HOLDERS,
    KNOWN,
    ROLES,
    Shape,
)
from dehaze_bench.data.pairs import SUFFIXES


@dataclass(frozen=True)
class Place:
    """Where a set lies: its folders of hazy and clear pictures (none without truth), and whose habit that is."""

    keeper: str
    hazy: tuple[Path, ...]
    clear: tuple[Path, ...]
    whole: bool = False
    listing: Path | None = None
    clips: int = 0
    mapped: str = ""


def find_places(name: str, role: str, root: str | Path) -> list[Place]:
    """Return every known shape of a set that is there under a root, the most usual first; empty for unknown names."""
    part = KNOWN[name].part(role) if name in KNOWN and role in ROLES else None
    root = Path(root).expanduser()
    if part is None or not root.is_dir():
        return []
    found: dict[tuple[tuple[Path, ...], tuple[Path, ...]], Place] = {}
    look = _Lookup()
    for shape in part.shapes:
        for base in look.bases(root, shape.base):
            place = _try_shape(root, base, shape)
            if place is not None:
                found.setdefault((place.hazy, place.clear), place)
    if part.truth:  # any other mixture of the usual names of subfolders
        for folder in part.bases:
            for base in [] if folder == "." else look.bases(root, folder):
                hazy = next((c for h in HAZY_FOLDERS if (c := look.child(base, h)) is not None), None)
                clear = next((c for h in CLEAR_FOLDERS if (c := look.child(base, h)) is not None), None)
                if hazy is None or clear is None or any(hazy in p.hazy for p in found.values()):
                    continue
                if holds_pictures(hazy) and holds_pictures(clear):
                    found[(hazy,), (clear,)] = Place("mixed names", (hazy,), (clear,))
    return list(found.values())


class _Lookup:
    """Subfolders by name, each folder being listed once: a root may be searched for a hundred names."""

    def __init__(self) -> None:
        self._inside: dict[Path, dict[str, list[str]]] = {}

    def bases(self, root: Path, base: str) -> Iterator[Path]:
        """Yield where a base is, below the root or below one of the holders."""
        for holder in HOLDERS:
            folder: Path | None = root
            for word in f"{holder}/{base}".strip("/").split("/"):
                folder = self.child(folder, word) if folder is not None else None
            if folder is not None:
                yield folder

    def child(self, folder: Path, name: str) -> Path | None:
        """Return a subfolder, by its exact name or one that differs in letter case, hyphens and the like."""
        if name == ".":
            return folder
        if folder not in self._inside:
            self._inside[folder] = {}
            with os.scandir(folder) as entries:
                for entry in sorted((e for e in entries if e.is_dir()), key=lambda e: e.name):
                    self._inside[folder].setdefault(plain(entry.name), []).append(entry.name)
        alike = self._inside[folder].get(plain(name), [])
        return folder / (name if name in alike else alike[0]) if alike else None


def plain(name: str) -> str:
    """Return a folder's name without what people write differently: letter case, hyphens and the like."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _try_shape(root: Path, base: Path, shape: Shape) -> Place | None:
    hazy = _subfolders(base, shape.hazy, HAZY_ENDINGS if shape.clear else ("",))
    clear = _subfolders(base, shape.clear, CLEAR_ENDINGS)
    if not hazy or (shape.clear and not clear):
        return None
    tops = dict.fromkeys((root, root.absolute().parent, base.absolute().parent.parent.parent))
    lists = [top / shape.listing for top in tops] if shape.listing else []
    listing = next((path for path in lists if path.is_file()), None)
    deep = "/".join("*" * (shape.clips + bool(shape.mapped)))
    if shape.clips and not all(any(_subfolders(folder, (deep,), ())) for folder in (*hazy, *clear)):
        return None
    return Place(shape.keeper, hazy, clear, shape.whole, listing, shape.clips, shape.mapped)


def _subfolders(base: Path, candidates: Sequence[str], endings: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the folders of the first candidate that is there; of "." only if pictures of these endings lie in it."""
    for candidate in candidates:
        if candidate == ".":
            if holds_pictures(base, endings):
                return (base,)
        elif "*" in candidate:
            several = tuple(sorted(path for path in base.glob(candidate) if path.is_dir()))
            if several:
                return several
        elif _is_exactly(base, candidate):
            return (base / candidate,)
    return ()


def _is_exactly(base: Path, candidate: str) -> bool:
    """Whether a folder is there in these letters, also where the disk does not tell gt from GT."""
    path = base / candidate
    return path.is_dir() and path.name in os.listdir(path.parent)


def is_picture(name: str) -> bool:
    """Whether a file name is that of a picture that is read."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def holds_pictures(folder: Path, endings: tuple[str, ...] = ("",)) -> bool:
    """Whether pictures lie in a folder, with one of the endings."""
    with os.scandir(folder) as entries:
        return any(is_picture(entry.name) and Path(entry.name).stem.endswith(endings) for entry in entries)

"""Finding the folders of a data set under a root and pairing their files; `places` knows the shapes of known sets.

The candidates of the config come first. Where none of them is there, and they are those of a known set, the shapes
of `known` are tried: a root that serves another repository serves here, without renaming or links.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
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
    Part,
)
from dehaze_bench.data.matching import MATCHES, check_rule, choose, expected_partner, pair
from dehaze_bench.data.pairs import SUFFIXES
from dehaze_bench.data.places import Place, find_places, holds_pictures, is_picture, plain
from dehaze_bench.data.video_folders import list_videos, video_of
from dehaze_bench.errors import UsageError

# Training sets with scenes that a test set has too.
TEST_OF = {"ots": "sots_outdoor"}


@dataclass(frozen=True)
class Pairs:
    """The pairs that were found, in name order, and how."""

    layout: str
    names: list[str]
    hazy: list[Path]
    clear: list[Path] | None

    @property
    def scenes(self) -> list[str]:
        """The scene of each pair, as `scene_in` reads it; a hazy picture stands in for a truth that is not there."""
        return [scene_in(name, path.stem) for name, path in zip(self.names, self.clear or self.hazy, strict=True)]


@dataclass(frozen=True)
class Sides:
    """The pictures of a set before they are paired, stem -> file; `names` are the hazy ones that belong to the part.

    `clear` is None for a set without truth.
    """

    place: Place
    names: list[str]
    hazy: dict[str, Path]
    clear: dict[str, Path] | None


def find_pairs(
    name: str,
    root: str,
    folders: Sequence[str],
    hazy: Sequence[str] | str,
    clear: Sequence[str] | str | None,
    match: str,
    role: str | None = None,
    split: str | None = None,
    place: Place | None = None,
) -> Pairs:
    """Find the folders of a data set and pair their pictures; UsageError says what is found and expected.

    With a `role` ("train" or "test") the known shapes are tried after `folders`. `split` names one of the set's
    splits; where both parts lie in one folder the usual one is taken without being asked for. A `place` that has been
    found already is not looked for again.
    """
    sides = find_sides(name, root, folders, hazy, clear, match, role, split, place)
    names, files, clear_files = sides.names, sides.hazy, sides.clear
    where = " and ".join(str(folder) for folder in sides.place.hazy)
    said = f" ({sides.place.keeper})" if sides.place.keeper else ""
    chosen = f", {len(names)} of {len(files)} by the split" if len(names) < len(files) else ""
    if clear_files is None:
        layout = f"hazy {where}, {len(names)} pictures, no clear ones{chosen}{said}"
        return Pairs(layout, names, [files[n] for n in names], None)
    rule, partners = pair(names, clear_files, match)
    missing = [n for n, partner in zip(names, partners, strict=True) if partner is None]
    if missing:
        raise UsageError(
            f"{name}: {len(missing)} of {len(names)} pictures have no clear one ({MATCHES.get(rule, rule)}). "
            f"First: {files[missing[0]]} needs {expected_partner(rule, missing[0])}.png in {sides.place.clear[0]}, "
            f"which holds {shorten([path.name for path in clear_files.values()])}. "
            "Complete the clear folder, remove the hazy pictures, or set another match rule: equal, prefix, ending, "
            "or a pattern such as *_hazy:*_GT."
        )
    truth = " and ".join(str(folder) for folder in sides.place.clear)
    layout = f"hazy {where}, clear {truth}, {len(names)} pairs, {MATCHES.get(rule, rule)}{chosen}{said}"
    return Pairs(layout, names, [files[n] for n in names], [p for p in partners if p is not None])


def find_sides(
    name: str,
    root: str,
    folders: Sequence[str],
    hazy: Sequence[str] | str,
    clear: Sequence[str] | str | None,
    match: str,
    role: str | None = None,
    split: str | None = None,
    place: Place | None = None,
) -> Sides:
    """Find both sides of a set without pairing them; arguments and errors as of `find_pairs`."""
    check_rule(name, match)
    place = place or _locate(name, Path(root).expanduser(), folders, hazy, clear, role)
    files = _collect(name, place, place.hazy, HAZY_ENDINGS)
    if place.listing is not None:
        files = _listed_in(name, place.listing, files)
    keep = belongs(name, role or "test", split, place.whole)
    names = [n for n in sorted(files) if keep(n)]
    if not names:
        raise UsageError(
            f"{name}: none of the {len(files)} pictures in {place.hazy[0]} belongs to its {role} part"
            f"{f' of split {split}' if split else ''}; found {shorten(sorted(files))}. Complete the set."
        )
    clear_files = _collect(name, place, place.clear, CLEAR_ENDINGS) if place.clear and clear is not None else None
    return Sides(place, names, files, clear_files)


def select(pairs: Pairs, keep: Callable[[str], bool], remark: str = "") -> Pairs:
    """Return the pairs whose names are to be kept."""
    kept = [i for i, name in enumerate(pairs.names) if keep(name)]
    clear = None if pairs.clear is None else [pairs.clear[i] for i in kept]
    return Pairs(pairs.layout + remark, [pairs.names[i] for i in kept], [pairs.hazy[i] for i in kept], clear)


def scene_of(name: str) -> str:
    """Return the scene that a picture's name begins with: 25 of 0025_0.8_0.04."""
    head = name.split("_", 1)[0]
    return str(int(head)) if head.isdecimal() else head


def scene_in(name: str, truth: str) -> str:
    """Return the scene of a pair by its name and the stem of its clear picture.

    It is the video of a frame, the number before the first underscore, or the name of the clear picture, which several
    hazy ones may share.
    """
    head = scene_of(name)
    return video_of(name) or (head if head.isdecimal() else truth)


def number_of(name: str) -> int | None:
    """Return the first number in a name, None where there is none."""
    found = re.search(r"\d+", name)
    return int(found.group()) if found else None


def shorten(entries: Sequence[str], limit: int = 8) -> str:
    """Return the first entries as text, and how many there are in all."""
    if not entries:
        return "nothing"
    return ", ".join(entries[:limit]) + (f", ... ({len(entries)} in all)" if len(entries) > limit else "")


def belongs(name: str, role: str, split: str | None, whole: bool = False) -> Callable[[str], bool]:
    """Return whether a picture is in the part of a split, by its number; of the usual one if the set lies `whole`."""
    known = KNOWN.get(name)
    if split is not None and (known is None or not known.splits):
        raise UsageError(f"{name}: split={split} is not known; this set comes without named splits. Leave it out.")
    if known is None or (split is None and not whole):
        return lambda _: True
    if split is not None:
        choose(name, "split", split, dict(known.splits))
    low, high = (known.split(split) or {}).get(role, (0, None))
    return lambda n: (i := number_of(n)) is not None and low <= i and (high is None or i <= high)


def _locate(
    name: str,
    root: Path,
    folders: Sequence[str],
    hazy: Sequence[str] | str,
    clear: Sequence[str] | str | None,
    role: str | None,
) -> Place:
    hazy_names, clear_names = _listed(hazy), None if clear is None else _listed(clear)
    point = f"Set paths.data=DIR (or DEHAZE_DATA=DIR) to the folder that holds it, or give {name} another root."
    shape = f"{{{','.join(hazy_names)}}}" + ("" if clear_names is None else f" and {{{','.join(clear_names)}}}")
    inside = "" if list(folders) == ["."] else f"{' or '.join(folders)} in it, with "
    expected = f"expected {inside}the subfolders {shape}"
    if not root.is_dir():
        raise UsageError(f"{name}: the data root {root.absolute()} does not exist; {expected}. {point}")
    places = find_places(name, role, root) if role else []
    partial = ""
    for folder in folders:
        base = root / folder
        hazy_folder = next((base / h for h in hazy_names if (base / h).is_dir()), None)
        clear_folder = next((base / c for c in clear_names or () if (base / c).is_dir()), None)
        if hazy_folder is not None and (clear is None or clear_folder is not None):
            found = Place("", (hazy_folder,), (clear_folder,) if clear_folder else ())
            return next((p for p in places if (p.hazy, p.clear) == (found.hazy, found.clear)), _inner(found, places))
        if base.is_dir() and not partial and base != root:
            lacks = "hazy" if hazy_folder is None else "clear"
            partial = f" {base} is there but has no {lacks} folder: it holds {shorten(_listdir(base))}."
    usual = hazy_names == list(HAZY_FOLDERS) and clear_names in (None, list(CLEAR_FOLDERS))
    part = KNOWN[name].part(role) if role in ROLES and name in KNOWN else None
    if usual and places and part is not None and all(_is_base(part, folder) for folder in folders):
        return places[0]
    raise UsageError(
        f"{name}: no known layout under {root.absolute()}, which holds {shorten(_listdir(root))}; "
        f"{expected}.{partial} {point}"
    )


def _inner(found: Place, places: Sequence[Place]) -> Place:
    """Return the known shape further inside, where the folders that were found hold only folders (synthetic/part1)."""
    if holds_pictures(found.hazy[0]):
        return found
    return next((p for p in places if all(folder.is_relative_to(found.hazy[0]) for folder in p.hazy)), found)


def _is_base(part: Part, folder: str) -> bool:
    """Whether a folder of the config is one of the known: a folder of the user's own is not to be second-guessed."""
    words = [plain(word) for word in folder.split("/")]
    bases = [[plain(word) for word in shape.base.split("/")] for shape in part.shapes]
    return words in bases or (words[0] in map(plain, HOLDERS) and words[1:] in bases)


def _collect(name: str, place: Place, folders: Sequence[Path], endings: tuple[str, ...]) -> dict[str, Path]:
    """Return stem -> file over all folders; where hazy and clear ones share a folder, only those of the endings."""
    files: dict[str, Path] = {}
    if place.clips:
        videos = list_videos(name, folders, place.clips, place.mapped, place.clear[0] if place.mapped else None)
        return {
            f"{video}/{stem}": path
            for video, folder in videos.items()
            for stem, path in _pictures(name, folder, may_be_empty=True).items()
        }
    for folder in folders:
        for stem, path in _pictures(name, folder).items():
            if place.hazy == place.clear and not stem.endswith(endings):
                continue
            if stem in files:
                raise UsageError(f"{name}: {files[stem]} and {path} share one name. Keep one of them.")
            files[stem] = path
    return files


def _listed_in(name: str, listing: Path, files: dict[str, Path]) -> dict[str, Path]:
    stems = [Path(line.strip()).stem for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
    missing = [stem for stem in stems if stem not in files]
    if missing:
        raise UsageError(
            f"{name}: {len(missing)} of {len(stems)} pictures of the list {listing} are missing: {shorten(missing)}. "
            "Complete the set, or move the list away to use what is there."
        )
    return {stem: files[stem] for stem in stems}


def _pictures(name: str, folder: Path, may_be_empty: bool = False) -> dict[str, Path]:
    """Return stem -> file for the pictures of a folder; UsageError if there is none or two share a stem."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if is_picture(path.name):
            if path.stem in files:
                raise UsageError(f"{name}: {files[path.stem]} and {path.name} share one name. Keep one of them.")
            files[path.stem] = path
    if not files and not may_be_empty:
        raise UsageError(
            f"{name}: no pictures in {folder}, which holds {shorten(_listdir(folder))}; "
            f"expected files ending in {', '.join(SUFFIXES)}. Unpack the data set there."
        )
    return files


def shared_scenes(name: str, root: str) -> Collection[str]:
    """Return the scenes of the test set that shares some with this training set; UsageError if it is not there."""
    if name not in TEST_OF:
        raise UsageError(
            f"{name}: exclude_test_scenes is for {', '.join(TEST_OF)}, whose scenes recur in a test set. Leave it out."
        )
    scenes: set[str] = set()
    for place in find_places(TEST_OF[name], "test", root):
        for folder in place.hazy:
            scenes |= {scene_of(stem) for stem in _pictures(name, folder)}
    if not scenes:
        raise UsageError(
            f"{name}: exclude_test_scenes needs {TEST_OF[name]} under {Path(root).expanduser().absolute()}, to read "
            "which scenes it has. Unpack it there, or leave exclude_test_scenes out."
        )
    return scenes


def _listed(value: Sequence[str] | str) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _listdir(folder: Path) -> list[str]:
    return sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())

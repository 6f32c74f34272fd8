"""What lies under a data root: known sets in known shapes, counted, measured and held against what is published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dehaze_bench.data.folders import TEST_OF, find_pairs, scene_of
from dehaze_bench.data.known import CLEAR_FOLDERS, HAZY_FOLDERS, KNOWN, ROLES
from dehaze_bench.data.pairs import SUFFIXES, read_size
from dehaze_bench.data.places import Place, find_places
from dehaze_bench.data.version import tell_version, width_growth
from dehaze_bench.errors import UsageError, nearest

SAMPLE = 24
_NOT_FOUND = "the pictures could not be paired"


@dataclass(frozen=True)
class Found:
    """One part of a set in one place; sizes are (width, height) -> how many of the `sampled` pictures have it."""

    name: str
    role: str
    title: str
    keeper: str
    hazy_folders: list[str]
    clear_folders: list[str]
    layout: str
    hazy: int
    clear: int
    scenes: frozenset[str]
    hazy_sizes: dict[tuple[int, int], int]
    clear_sizes: dict[tuple[int, int], int]
    formats: dict[str, int]
    version: str
    remarks: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the counts are those of a published version, and nothing failed."""
        part = KNOWN[self.name].part(self.role)
        counts = [(v.hazy, v.clear) for v in part.versions] if part else []
        return (self.hazy, self.clear) in counts or any(
            self.hazy == hazy and self.clear == hazy and len(self.scenes) == clear for hazy, clear in counts
        )


def survey(root: str | Path, names: Sequence[str] = ()) -> list[Found]:
    """Return what is found of the named sets, or of all; UsageError for an unknown name or a root that is not there."""
    root = Path(root).expanduser()
    for name in names:
        if name not in KNOWN:
            raise UsageError(f"data set '{name}' is not known. {nearest(name, KNOWN)}")
    if not root.is_dir():
        raise UsageError(f"The data root {root.absolute()} does not exist. Give --root DIR, or set DEHAZE_DATA.")
    found = []
    for name in names or KNOWN:
        for role in ROLES:
            places = find_places(name, role, root)
            found += [_look(name, role, root, place) for place in places]
    _note_shared_scenes(found)
    return found


def _look(name: str, role: str, root: Path, place: Place) -> Found:
    known = KNOWN[name]
    part = known.part(role)
    assert part is not None
    hazy_files, clear_files, remarks = _files(place.hazy), _files(place.clear), []
    scenes = frozenset(scene_of(path.stem) for path in clear_files or hazy_files)
    layout = _NOT_FOUND
    try:
        pairs = find_pairs(
            name, str(root), ["."], HAZY_FOLDERS, CLEAR_FOLDERS if part.truth else None, "auto", role, place=place
        )
        layout, hazy_files = pairs.layout, pairs.hazy
        clear_files = sorted(set(pairs.clear or []))
        scenes = frozenset(pairs.scenes)
    except UsageError as error:
        remarks.append(str(error))
    sizes = [_sizes(files, remarks) for files in (hazy_files, clear_files)]
    growth = width_growth(*map(list, sizes))
    return Found(
        name,
        role,
        known.title,
        place.keeper,
        [str(folder) for folder in place.hazy],
        [str(folder) for folder in place.clear],
        layout,
        len(hazy_files),
        len(clear_files),
        scenes,
        sizes[0],
        sizes[1],
        dict(Counter(path.suffix.lower() for path in [*hazy_files, *clear_files])),
        tell_version(part, len(hazy_files), len(clear_files), len(scenes), growth),
        remarks,
    )


def _files(folders: Sequence[Path]) -> list[Path]:
    return sorted(
        path
        for folder in folders
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def _sizes(files: Sequence[Path], remarks: list[str]) -> dict[tuple[int, int], int]:
    """Read the headers of a sample, evenly over the names."""
    step = max(1, len(files) // SAMPLE)
    sizes: Counter[tuple[int, int]] = Counter()
    failures = []
    for path in files[::step]:
        try:
            height, width = read_size(path)
            sizes[width, height] += 1
        except UsageError as error:
            failures.append(str(error))
    if failures:
        remarks.append(f"{len(failures)} of {len(files[::step])} sampled files cannot be read. First: {failures[0]}")
    return dict(sizes.most_common())


def _note_shared_scenes(found: Sequence[Found]) -> None:
    for train, test in TEST_OF.items():
        there = {scene for other in found if other.name == test for scene in other.scenes}
        for one in found:
            if one.name == train and (shared := len(one.scenes & there)):
                one.remarks.append(
                    f"{shared} of its {len(one.scenes)} scenes are in {test} too: "
                    "dataset.exclude_test_scenes=true leaves them out"
                )

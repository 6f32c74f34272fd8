"""The same scene twice: within a part of a data set, across parts, and by the ids of OTS and SOTS-outdoor.

Candidates are pairs of pictures whose perceptual and difference hashes (imagehash, 64 bits each) differ in few
bits; a cut of 10 px, JPEG and a change of size move about eight of the 128, other scenes differ in about 60. A
candidate counts once its edges lie on each other as well, so that two views of one room do not.

Shapes: N pictures, M others; hashes are uint64 (N, 2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dehaze_bench.data.folders import TEST_OF
from dehaze_bench.data.inspection_alignment import RELATED
from dehaze_bench.data.inspection_files import Record, SceneJob
from dehaze_bench.data.inspection_report import Finding
from dehaze_bench.data.inspection_subjects import Subject

NEAR = 16  # bits of 128
_LIMIT = 60_000  # different hashes: beyond that only equal ones are looked for
_ROWS = 512
Confirm = Callable[[list[SceneJob]], Mapping[SceneJob, Record]]


@dataclass(frozen=True)
class Catalogue:
    """The pictures that stand for the scenes of a subject: one per file, with its cut, hashes and digest."""

    subject: Subject
    paths: list[str]
    scenes: list[str]
    cuts: list[int]
    hashes_N2: np.ndarray
    digests: list[str]


def catalogue(subject: Subject, files: Mapping[str, Record], cuts: Mapping[str, int]) -> Catalogue:
    """Collect the decoded truths; `cuts` are the pixels that the layout cuts from each side of some."""
    scene_of: dict[str, str] = {}
    for path, scene in zip(subject.truths, subject.scenes, strict=True):
        if "error" not in files[str(path)]:
            scene_of.setdefault(str(path), scene)
    paths = list(scene_of)
    cut = [cuts.get(path, 0) for path in paths]
    hashes = [hash_bits(files[path], pixels) for path, pixels in zip(paths, cut, strict=True)]
    digests = [str(files[path]["digest"]) for path in paths]
    return Catalogue(subject, paths, list(scene_of.values()), cut, np.array(hashes, np.uint64).reshape(-1, 2), digests)


def hash_bits(record: Record, cut: int = 0) -> tuple[int, int]:
    """Return the two hashes of a picture whose margin was cut (of the whole one, where it is too small for that)."""
    texts = record["hashes"].get(str(cut)) or record["hashes"]["0"]
    return int(texts[0], 16), int(texts[1], 16)


def distances(one_N2: np.ndarray, two_M2: np.ndarray) -> np.ndarray:
    """Return the number of different bits (N, M)."""
    different = np.bitwise_count(one_N2[:, None] ^ two_M2[None])
    summed: np.ndarray = different.sum(axis=2, dtype=np.int16)
    return summed


def find_within(one: Catalogue, confirm: Confirm) -> list[Finding]:
    """Name scenes that occur twice under different ids."""
    near = [(i, j) for i, j in _near(one, one) if i < j and one.scenes[i] != one.scenes[j]]
    same = _confirmed(one, one, near, confirm)
    if not same:
        return []
    files = tuple(f"{one.paths[i]} = {one.paths[j]}" for i, j in same)
    text = f"{_times(len(same))} under two names within one part"
    return [Finding("duplicate", one.subject.label, text, files)]


def find_across(one: Catalogue, two: Catalogue, confirm: Confirm) -> tuple[list[Finding], list[Finding]]:
    """Return (findings, notes): scenes of one part that are in the other; a published overlap of ids is a note."""
    where = f"{one.subject.label} and {two.subject.label}"
    shared: set[str] = set()
    notes = []
    for train, test in ((one.subject, two.subject), (two.subject, one.subject)):
        if TEST_OF.get(train.name) == test.name and (train.role, test.role) == ("train", "test"):
            shared = set(train.scenes) & set(test.scenes)
            text = (
                f"{len(shared)} of {len(set(test.scenes))} scenes of {test.name} have an id that {train.name} has too "
                "(known: 75 of 492 for OTS beta). dataset.exclude_test_scenes=true leaves them out of training"
            )
            notes.append(Finding("scene ids in both", where, text, tuple(f"scene {s}" for s in sorted(shared))))
    near = [(i, j) for i, j in _near(one, two) if not (one.scenes[i] == two.scenes[j] and one.scenes[i] in shared)]
    same = _confirmed(one, two, near, confirm)
    if not same:
        return [], notes
    files = tuple(f"{one.paths[i]} = {two.paths[j]}" for i, j in same)
    kind = "test scene in training" if {one.subject.role, two.subject.role} == {"train", "test"} else "duplicate"
    return [Finding(kind, where, f"{_times(len(same))} in both", files)], notes


def find_copies(subject: Subject, files: Mapping[str, Record]) -> list[Finding]:
    """Name hazy pictures that are the same to the pixel, and pairs whose two pictures are."""
    findings = []
    groups: dict[str, list[str]] = defaultdict(list)
    if subject.pairs.clear is not None:
        for path in dict.fromkeys(map(str, subject.pairs.hazy)):
            if "error" not in files[path]:
                groups[files[path]["digest"]].append(path)
    copies = tuple(" = ".join(paths) for paths in groups.values() if len(paths) > 1)
    if copies:
        text = "hazy pictures are the same, pixel by pixel, under several names"
        findings.append(Finding("duplicate", subject.label, text, copies))
    equal = [
        str(hazy)
        for hazy, clear in zip(subject.pairs.hazy, subject.pairs.clear or (), strict=False)
        if files[str(hazy)].get("digest", "") == files[str(clear)].get("digest")
    ]
    if equal:
        text = f"{len(equal):,} of {len(subject.pairs.names):,} hazy pictures are their clear one, pixel by pixel"
        findings.append(Finding("no haze", subject.label, text, tuple(equal)))
    return findings


def _near(one: Catalogue, two: Catalogue) -> list[tuple[int, int]]:
    """Return the index pairs whose hashes differ in at most `NEAR` bits."""
    rows_K2, of_row = np.unique(one.hashes_N2, axis=0, return_inverse=True)
    columns_K2, of_column = np.unique(two.hashes_N2, axis=0, return_inverse=True)
    holders: list[list[list[int]]] = []
    for unique, inverse in ((rows_K2, of_row), (columns_K2, of_column)):
        lists: list[list[int]] = [[] for _ in unique]
        for index, key in enumerate(inverse.reshape(-1)):
            lists[key].append(index)
        holders.append(lists)
    reach = NEAR if max(len(rows_K2), len(columns_K2)) <= _LIMIT else 0
    found = []
    for start in range(0, len(rows_K2), _ROWS):
        block = rows_K2[start : start + _ROWS]
        for row, column in np.argwhere(distances(block, columns_K2) <= reach):
            # Copies of one picture under one scene would make many pairs of the same: the first of each stands for all.
            firsts = [
                _first_of_scenes(c, lists[k])
                for c, lists, k in ((one, holders[0], start + row), (two, holders[1], column))
            ]
            found += [(i, j) for i in firsts[0] for j in firsts[1]]
    return found


def _first_of_scenes(one: Catalogue, indices: Sequence[int]) -> list[int]:
    firsts: dict[str, int] = {}
    for index in indices:
        firsts.setdefault(one.scenes[index], index)
    return list(firsts.values())


def _confirmed(
    one: Catalogue, two: Catalogue, near: Sequence[tuple[int, int]], confirm: Confirm
) -> list[tuple[int, int]]:
    """Keep the candidates that are equal to the pixel or whose edges lie on each other; one per pair of scenes."""
    jobs = {(i, j): (one.paths[i], two.paths[j], one.cuts[i], two.cuts[j]) for i, j in near}
    looks = confirm([job for (i, j), job in jobs.items() if one.digests[i] != two.digests[j]])
    kept: dict[tuple[str, str], tuple[int, int]] = {}
    for i, j in near:
        equal = one.digests[i] == two.digests[j]
        if equal or looks[jobs[i, j]].get("kind") in RELATED:
            kept.setdefault((one.scenes[i], two.scenes[j]), (i, j))
    return list(kept.values())


def _times(num: int) -> str:
    return f"{num:,} scene is" if num == 1 else f"{num:,} scenes are"

"""What is inspected: the pictures of one part of a data set, paired as far as they can be.

`layouts.find_pairs` refuses a folder in which a partner is missing. An inspection goes on with the rest, and
names what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dehaze_bench.data.folders import Pairs, find_pairs, find_places, scene_of
from dehaze_bench.data.inspection_report import Finding, count_of
from dehaze_bench.data.known import KNOWN, Version
from dehaze_bench.data.matching import MATCHES, pair
from dehaze_bench.data.pairs import SUFFIXES
from dehaze_bench.errors import UsageError


@dataclass(frozen=True)
class Subject:
    """One part of a data set.

    Args:
        name, role: as in the config: "its", "train".
        pairs: hazy pictures and, of equal length, their clear ones; None without ground truth.
        margin: pixels that the layout may cut from each side of a larger clear picture.
        lone: hazy pictures that have no clear one.
        spare: clear pictures that have no hazy one.
    """

    name: str
    role: str
    pairs: Pairs
    margin: int = 0
    lone: tuple[Path, ...] = ()
    spare: tuple[Path, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.name} ({self.role})"

    @property
    def scenes(self) -> list[str]:
        """The scene of each pair: the folder of a clip's frame, the number before the first underscore, or the
        name of the clear picture, which several hazy ones may share.
        """
        clear = self.pairs.clear or self.pairs.hazy
        return [_scene(name, path.stem) for name, path in zip(self.pairs.names, clear, strict=True)]

    @property
    def truths(self) -> list[Path]:
        """The pictures that show each scene best: the clear ones, or the hazy ones where there are no others."""
        return self.pairs.hazy if self.pairs.clear is None else self.pairs.clear


def gather(name: str, role: str, arguments: Mapping[str, Any], margin: int) -> Subject:
    """Find the pictures of a part; `arguments` are those of `find_pairs`.

    Raises `UsageError` where there is no such folder, or nothing in it that could be paired.
    """
    try:
        found = find_pairs(**arguments)
        return Subject(name, role, found, margin, spare=_find_spare(found))
    except UsageError:
        if arguments.get("clear") is None:
            raise
        salvaged = _salvage(arguments)
        if salvaged is None:
            raise
    pairs, lone = salvaged
    return Subject(name, role, pairs, margin, lone, _find_spare(pairs))


def find_incomplete(subject: Subject) -> list[Finding]:
    """Name hazy pictures without a clear one, clear ones without a hazy one, and scenes with too few hazy ones."""
    findings = []
    if subject.lone:
        text = f"{count_of(len(subject.lone), 'hazy picture has', 'hazy pictures have')} no clear one"
        findings.append(Finding("missing partner", subject.label, text, tuple(map(str, subject.lone))))
    if subject.spare:
        text = f"{count_of(len(subject.spare), 'clear picture has', 'clear pictures have')} no hazy one"
        findings.append(Finding("missing partner", subject.label, text, tuple(map(str, subject.spare))))
    per_scene = Counter(subject.scenes)
    usual, times = Counter(per_scene.values()).most_common(1)[0] if per_scene else (0, 0)
    few = [scene for scene, num in per_scene.items() if num < usual]
    clips = any("/" in name for name in subject.pairs.names)
    if few and not clips and usual >= 5 and times >= 0.8 * len(per_scene):
        text = f"{count_of(len(few), 'scene has', 'scenes have')} fewer than {usual} hazy pictures, as the others have"
        findings.append(Finding("missing partner", subject.label, text, tuple(f"scene {scene}" for scene in few)))
    return findings


def tell_version(subject: Subject, num_clear: int, clear_size: tuple[int, int] | None) -> tuple[str, bool]:
    """Return which published edition this is, in words, and whether the count is a published one.

    `clear_size` is the (width, height) that most clear pictures have.
    """
    known = KNOWN.get(subject.name)
    part = known.part(subject.role) if known is not None else None
    num = len(subject.pairs.names) + len(subject.lone)
    if part is None:
        return f"no published count is known; {num:,} here", True
    for version in part.versions:
        if version.hazy == num:
            return f"{version.name}: {num:,}, as published".removeprefix(": "), True

    def distance(version: Version) -> tuple[bool, float, float]:
        other_size = version.clear_size is not None and clear_size is not None and version.clear_size != clear_size
        return other_size, abs(version.clear - num_clear), abs(version.hazy - num)

    nearest = min(part.versions, key=distance)
    published = " or ".join(f"{v.hazy:,} ({v.name})" if v.name else f"{v.hazy:,}" for v in part.versions)
    like = f"; clear pictures are most like {nearest.name}" if len(part.versions) > 1 else ""
    return f"{num:,} here, published {published}{like}", False


def _scene(name: str, truth: str) -> str:
    folder, _, file = name.rpartition("/")
    head = scene_of(file)
    return folder or (head if head.isdecimal() else truth)


def _salvage(arguments: Mapping[str, Any]) -> tuple[Pairs, tuple[Path, ...]] | None:
    """Pair what can be paired in the first folder that has both sides; None where there is none."""
    for folder in arguments["folders"]:
        try:
            hazy = find_pairs(**{**arguments, "folders": [folder], "clear": None, "match": "equal"})
        except UsageError:
            continue
        beside = sorted(path for each in _beside(hazy, arguments) for path in each.iterdir() if _is_picture(path))
        clear_files = {path.stem: path for path in beside if path not in hazy.hazy}
        rule, partners = pair(hazy.names, clear_files, arguments["match"])
        kept = [(n, h, c) for n, h, c in zip(hazy.names, hazy.hazy, partners, strict=True) if c is not None]
        if kept:
            layout = f"{hazy.layout}; clear {kept[0][2].parent}, {len(kept)} pairs, {MATCHES.get(rule, rule)}"
            pairs = Pairs(layout, [n for n, _, _ in kept], [h for _, h, _ in kept], [c for _, _, c in kept])
            return pairs, tuple(h for h, c in zip(hazy.hazy, partners, strict=True) if c is None)
    return None


def _beside(hazy: Pairs, arguments: Mapping[str, Any]) -> tuple[Path, ...]:
    """Return the folders of clear pictures that belong to the folders of these hazy ones."""
    parents = {path.parent for path in hazy.hazy}
    for place in find_places(arguments["name"], arguments.get("role") or "", arguments["root"]):
        if parents <= set(place.hazy):
            return place.clear
    names = arguments["clear"]
    for name in [names] if isinstance(names, str) else names:
        folder = hazy.hazy[0].parent.parent / name
        if folder.is_dir():
            return (folder,)
    return ()


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _find_spare(pairs: Pairs) -> tuple[Path, ...]:
    """Return the pictures that lie beside the clear ones and belong to no pair.

    None where hazy and clear ones share a folder or a split takes some of it: the rest is another part's.
    """
    used = set(pairs.clear or ())
    folders = {path.parent for path in used}
    if folders & {path.parent for path in pairs.hazy} or "by the split" in pairs.layout:
        return ()
    beside = (path for folder in folders for path in folder.iterdir() if _is_picture(path))
    return tuple(sorted(path for path in beside if path not in used))

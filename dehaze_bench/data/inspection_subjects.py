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

from dehaze_bench.data.folders import Pairs, find_pairs, find_sides
from dehaze_bench.data.inspection_report import Finding, count_of
from dehaze_bench.data.known import KNOWN
from dehaze_bench.data.matching import MATCHES, pair
from dehaze_bench.data.pairs import SUFFIXES
from dehaze_bench.data.version import describe_version, width_growth
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
        """The scene of each pair."""
        return self.pairs.scenes

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


def describe_edition(
    subject: Subject, hazy_sizes: list[tuple[int, int]], clear_sizes: list[tuple[int, int]]
) -> tuple[str, bool]:
    """Return which published edition this is, in words, and whether the count is a published one.

    The sizes are those (width, height) that occur.
    """
    known = KNOWN.get(subject.name)
    num = len(subject.pairs.names) + len(subject.lone)
    clear = len(set(subject.pairs.clear or ()))
    growth = width_growth(hazy_sizes, clear_sizes)
    part = known.part(subject.role) if known is not None else None
    return describe_version(part, num, clear, len(set(subject.scenes)), growth)


def _salvage(arguments: Mapping[str, Any]) -> tuple[Pairs, tuple[Path, ...]] | None:
    """Pair what can be paired; None where there are no two sides, or nothing in them fits."""
    try:
        sides = find_sides(**arguments)
    except UsageError:
        return None
    rule, partners = pair(sides.names, sides.clear or {}, arguments["match"])
    both = list(zip(sides.names, partners, strict=True))
    kept = [(name, sides.hazy[name], clear) for name, clear in both if clear is not None]
    if not kept:
        return None
    folders = [" and ".join(map(str, each)) for each in (sides.place.hazy, sides.place.clear)]
    chosen = f", {len(both)} of {len(sides.hazy)} by the split" if len(both) < len(sides.hazy) else ""
    layout = f"hazy {folders[0]}, clear {folders[1]}, {len(kept)} pairs, {MATCHES.get(rule, rule)}{chosen}"
    pairs = Pairs(layout, [name for name, _, _ in kept], [hazy for _, hazy, _ in kept], [clear for _, _, clear in kept])
    return pairs, tuple(sides.hazy[name] for name, clear in both if clear is None)


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

"""Do pairs belong together: sizes for all, alignment for a sample and for those whose hashes are suspicious."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dehaze_bench.data.inspection_alignment import RELATED, Alignment
from dehaze_bench.data.inspection_duplicates import distances, hash_bits
from dehaze_bench.data.inspection_files import PairJob, Record
from dehaze_bench.data.inspection_report import Finding, count_of
from dehaze_bench.data.inspection_subjects import Subject

_SUSPICIOUS = 24  # bits of 128 between hazy and clear: under thin haze a pair differs in less
_LEAD = 20  # bits by which another scene must be nearer
_ALL, _NEAREST = 40, 12  # so many clear pictures are all tried as the right partner; of more, the nearest
_ROWS = 256
Compare = Callable[[list[PairJob]], Mapping[PairJob, Record]]


def check_sizes(subject: Subject, files: Mapping[str, Record]) -> tuple[list[int | None], list[Finding]]:
    """Return the pixels to cut from each side of each clear picture, None where the pair cannot be used."""
    cuts: list[int | None] = []
    wrong: dict[str, list[str]] = defaultdict(list)
    for hazy, clear in zip(subject.pairs.hazy, subject.pairs.clear or (), strict=False):
        one, two = files[str(hazy)].get("size"), files[str(clear)].get("size")
        if one is None or two is None:
            cuts.append(None)
        elif one == two:
            cuts.append(0)
        elif subject.margin and two == [side + 2 * subject.margin for side in one]:
            cuts.append(subject.margin)
        else:
            cuts.append(None)
            wrong[f"hazy {one[1]}x{one[0]}, clear {two[1]}x{two[0]}"].append(f"{hazy} and {clear}")
    rule = f"or {subject.margin} px more on each side of the clear one" if subject.margin else "no crop is set"
    findings = [
        Finding("sizes", subject.label, f"{sizes}; expected the same size, {rule}", tuple(names))
        for sizes, names in sorted(wrong.items())
    ]
    return cuts, findings


def check_alignment(
    subject: Subject, files: Mapping[str, Record], cuts: Sequence[int | None], sample: int, compare: Compare
) -> tuple[str, list[Finding], list[Finding]]:
    """Compare `sample` pairs (0: all) and the suspicious ones; return (summary, findings, notes)."""
    usable = [i for i, cut in enumerate(cuts) if cut is not None]
    if not usable:
        return "no pair could be compared", [], []
    num = len(usable) if sample == 0 else min(sample, len(usable))
    chosen = {usable[round(k)] for k in np.linspace(0, len(usable) - 1, num)}
    suspects = _find_suspects(subject, files, cuts, usable)
    chosen |= set(suspects)
    jobs = {i: _job(subject, cuts, i) for i in sorted(chosen)}
    looks = compare(list(jobs.values()))
    # Only pairs of one size come here, so a comparison fails only if a file changed in the meantime.
    found = {i: Alignment(**look) for i, job in jobs.items() if "error" not in (look := looks[job])}
    findings = _describe_shifts(subject, cuts, found)
    strangers = [i for i, one in found.items() if one.kind == "unrelated"]
    findings += _describe_strangers(subject, files, cuts, strangers, compare)
    findings += _describe_exchanged(subject, found)
    kinds = Counter(one.kind for one in found.values())
    said = ", ".join(f"{num} {kind}" for kind, num in kinds.most_common())
    summary = f"{len(found):,} of {len(cuts):,} pairs compared: {said}"
    notes = []
    if kinds["unclear"]:
        names = tuple(str(subject.pairs.hazy[i]) for i, one in found.items() if one.kind == "unclear")
        text = f"{len(names):,} compared pairs are too small or have too little structure to tell"
        notes.append(Finding("alignment unknown", subject.label, text, names))
    return summary, findings, notes


def _job(subject: Subject, cuts: Sequence[int | None], index: int, partner: int | None = None) -> PairJob:
    clear = subject.truths[index if partner is None else partner]
    cut = cuts[index if partner is None else partner]
    return str(subject.pairs.hazy[index]), str(clear), cut or 0


def _describe_shifts(subject: Subject, cuts: Sequence[int | None], found: Mapping[int, Alignment]) -> list[Finding]:
    groups: dict[str, list[int]] = defaultdict(list)
    for i, one in found.items():
        if one.kind == "shifted":
            groups[_describe_shift(one.shift, cuts[i] or 0)].append(i)
        elif one.kind == "resized":
            down, across = one.scale
            groups[
                "one of the two was resized: the hazy picture lies on the clear one at about "
                f"{100 * across:.0f} % of its width and {100 * down:.0f} % of its height"
            ].append(i)
    return [
        Finding(
            "resized" if text.startswith("one of") else "misaligned",
            subject.label,
            f"{len(members):,} of {len(found):,} compared pairs: {text}",
            tuple(_name(subject, i) for i in members),
        )
        for text, members in sorted(groups.items())
    ]


def _describe_shift(shift: tuple[int, int], cut: int) -> str:
    row, column = cut + shift[0], cut + shift[1]
    # A corner instead of the middle: of the clear picture's margin, or of one that was cut before.
    corners = {(-10, -10): " (a top-left crop)", (10, 10): " (a bottom-right crop)"}
    if not cut:
        corners = {
            (10, 10): " (the clear one is a top-left crop)",
            (-10, -10): " (the clear one is a bottom-right crop)",
        }
    return (
        f"the hazy picture lies at row {row}, column {column} of the clear one{corners.get(shift, '')}, "
        f"expected row {cut}, column {cut}"
    )


def _describe_strangers(
    subject: Subject,
    files: Mapping[str, Record],
    cuts: Sequence[int | None],
    strangers: Sequence[int],
    compare: Compare,
) -> list[Finding]:
    """Look for the clear picture that each hazy one does show, and name both."""
    if not strangers:
        return []
    first_of: dict[str, int] = {}  # clear picture -> a pair that it can be used in
    for i, cut in enumerate(cuts):
        if cut is not None:
            first_of.setdefault(str(subject.truths[i]), i)
    others = list(first_of.values())
    clear_M2 = np.array([_truth_hash(subject, files, cuts, j) for j in others], np.uint64).reshape(-1, 2)
    jobs: dict[tuple[int, int], PairJob] = {}
    for i in strangers:
        hazy_12 = np.array([hash_bits(files[str(subject.pairs.hazy[i])])], np.uint64)
        order = np.argsort(distances(hazy_12, clear_M2)[0], kind="stable")
        for k in order[: len(others) if len(others) <= _ALL else _NEAREST]:
            if subject.truths[others[k]] != subject.truths[i]:
                jobs[i, others[k]] = _job(subject, cuts, i, others[k])
    looks = compare(list(jobs.values()))
    shows: dict[int, int] = {}
    best: dict[int, tuple[bool, float]] = {}
    for (i, j), job in jobs.items():
        if looks[job].get("kind") in RELATED:
            rank = (looks[job]["kind"] == "aligned", looks[job]["score"])
            if rank > best.get(i, (False, -1.0)):
                shows[i], best[i] = j, rank
    swapped = tuple(
        f"{_name(subject, i)}, but it shows the scene of {subject.truths[shows[i]]}" for i in strangers if i in shows
    )
    alone = tuple(_name(subject, i) for i in strangers if i not in shows)
    findings = []
    if swapped:
        text = count_of(len(swapped), "hazy picture has", "hazy pictures have") + " the clear picture of another scene"
        findings.append(Finding("swapped pair", subject.label, text, swapped))
    if alone:
        text = count_of(len(alone), "hazy picture does", "hazy pictures do")
        text += " not show the scene of the clear one (nor of the likely others)"
        findings.append(Finding("unrelated pair", subject.label, text, alone))
    return findings


def _describe_exchanged(subject: Subject, found: Mapping[int, Alignment]) -> list[Finding]:
    exchanged = [i for i, one in found.items() if one.kind in RELATED and one.exchanged]
    if not exchanged:
        return []
    text = (
        f"{len(exchanged):,} of {len(found):,} compared pairs: the hazy picture has more contrast and is darker than "
        "its clear one; the two seem to be exchanged"
    )
    return [Finding("exchanged pair", subject.label, text, tuple(_name(subject, i) for i in exchanged))]


def _find_suspects(
    subject: Subject, files: Mapping[str, Record], cuts: Sequence[int | None], usable: Sequence[int]
) -> list[int]:
    """Return pairs whose hazy picture is, by its hashes, far from its clear one and much nearer to another scene's."""
    hazy_N2 = np.array([hash_bits(files[str(subject.pairs.hazy[i])]) for i in usable], np.uint64)
    clear_N2 = np.array([_truth_hash(subject, files, cuts, i) for i in usable], np.uint64)
    own_N = np.bitwise_count(hazy_N2 ^ clear_N2).sum(axis=1, dtype=np.int16)
    others_M2 = np.unique(clear_N2, axis=0)
    far = np.flatnonzero(own_N >= _SUSPICIOUS)
    suspects: list[int] = []
    for start in range(0, len(far), _ROWS):
        rows = far[start : start + _ROWS]
        nearest = distances(hazy_N2[rows], others_M2).min(axis=1)
        suspects += [usable[row] for row in rows[own_N[rows] - nearest >= _LEAD]]
    return suspects


def _truth_hash(
    subject: Subject, files: Mapping[str, Record], cuts: Sequence[int | None], index: int
) -> tuple[int, int]:
    return hash_bits(files[str(subject.truths[index])], cuts[index] or 0)


def _name(subject: Subject, index: int) -> str:
    return f"{subject.pairs.hazy[index]} with {subject.truths[index]}"

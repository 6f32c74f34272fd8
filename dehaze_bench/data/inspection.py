"""Inspecting data sets: what could silently be wrong with the pictures under a root, found and named.

Order: every file is decoded and hashed; then come partners, sizes, alignment, and the same scene twice. What
was looked at is remembered (`inspection_files.Memory`), so an inspection that was ended goes on where it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from dehaze_bench.data.inspection_duplicates import Catalogue, catalogue, find_across, find_copies, find_within
from dehaze_bench.data.inspection_files import (
    Record,
    SceneJob,
    Workers,
    compare,
    compare_scenes,
    examine,
)
from dehaze_bench.data.inspection_pairs import check_alignment, check_sizes
from dehaze_bench.data.inspection_report import Finding, Report, Summary
from dehaze_bench.data.inspection_subjects import Subject, describe_edition, find_incomplete
from dehaze_bench.data.pairs import decoder

SAMPLE = 64
Progress = Callable[[str, Iterator[Record], int], Iterator[Record]]


def inspect(
    subjects: Sequence[Subject], root: str, workers: Workers, sample: int = SAMPLE, progress: Progress | None = None
) -> Report:
    """Return what there is and what is wrong with it.

    Args:
        subjects: parts of data sets; scenes are compared within each and between all.
        root: named in the report.
        workers: where the looking is done, with its memory.
        sample: pairs per part whose alignment is checked; 0 for all.
        progress: is handed (what, records, their number) and passes the records on.
    """
    report = Report(decoder(), root)
    show: Progress = progress or (lambda what, records, num: records)
    catalogues = []
    for subject in subjects:
        files = _examine(subject, workers, show)
        report.findings += _find_damaged(subject, files) + find_incomplete(subject)
        catalogues.append(_inspect_one(subject, files, report, workers, sample, show))
    confirm = _confirmer(workers, show, "comparing scenes")
    for one in catalogues:
        report.findings += find_within(one, confirm)
    for one, two in combinations(catalogues, 2):
        findings, notes = find_across(one, two, confirm)
        report.findings += findings
        report.notes += notes
    report.looked, report.remembered = workers.looked, workers.remembered
    return report


def _inspect_one(
    subject: Subject, files: Mapping[str, Record], report: Report, workers: Workers, sample: int, show: Progress
) -> Catalogue:
    cut_of: dict[str, int] = {}
    if subject.pairs.clear is None:
        alignment = "no clear pictures"
    else:
        cuts, findings = check_sizes(subject, files)
        report.findings += findings
        cut_of = {str(path): cut for path, cut in zip(subject.truths, cuts, strict=True) if cut is not None}
        alignment, findings, notes = check_alignment(
            subject,
            files,
            cuts,
            sample,
            lambda jobs: workers.run(compare, jobs, lambda it, num: show(f"{subject.label}: alignment", it, num)),
        )
        report.findings += findings
        report.notes += notes
    report.findings += find_copies(subject, files)
    report.notes += _find_misnamed(subject, files)
    one = catalogue(subject, files, cut_of)
    num_scenes = len(set(subject.scenes))
    sides = [list(_sizes(paths, files)) for paths in (subject.pairs.hazy, subject.pairs.clear or ())]
    version, published = describe_edition(subject, *sides)
    if not published:
        report.notes.append(Finding("count", subject.label, version))
    report.summaries.append(
        Summary(
            subject.label,
            subject.pairs.layout,
            len(subject.pairs.names),
            num_scenes,
            version,
            _list_sizes(subject, files),
            _list_formats(files),
            alignment,
        )
    )
    return one


def _examine(subject: Subject, workers: Workers, show: Progress) -> dict[str, Record]:
    clear = set(map(str, subject.pairs.clear or ()))
    paths = dict.fromkeys(map(str, (*subject.pairs.hazy, *subject.lone, *(subject.pairs.clear or ()), *subject.spare)))
    jobs = [(path, subject.margin if path in clear else 0) for path in paths]
    looks = workers.run(examine, jobs, lambda it, num: show(f"{subject.label}: decoding", it, num))
    return {job[0]: look for job, look in looks.items()}


def _find_damaged(subject: Subject, files: Mapping[str, Record]) -> list[Finding]:
    damaged = tuple(f"{path}: {look['error']}" for path, look in files.items() if "error" in look)
    text = f"{len(damaged):,} of {len(files):,} files cannot be decoded"
    return [Finding("damaged", subject.label, text, damaged)] if damaged else []


def _find_misnamed(subject: Subject, files: Mapping[str, Record]) -> list[Finding]:
    misnamed = tuple(
        path
        for path, look in files.items()
        if "format" in look and (look["format"] == "PNG") != path.lower().endswith(".png")
    )
    text = f"{len(misnamed):,} files are JPEG under the name of a PNG or the other way round"
    return [Finding("misnamed", subject.label, text, misnamed)] if misnamed else []


def _list_sizes(subject: Subject, files: Mapping[str, Record]) -> tuple[str, ...]:
    counts: Counter[str] = Counter()
    for kind, paths in (("hazy", subject.pairs.hazy), ("clear", subject.pairs.clear or ())):
        for (width, height), num in _sizes(paths, files).items():
            counts[f"{kind} {width}x{height}"] = num
    several = [f"{size} ({num:,})" for size, num in counts.most_common(6)]
    return (*several, f"{len(counts) - 6} other sizes") if len(counts) > 6 else tuple(several)


def _sizes(paths: Sequence[Path], files: Mapping[str, Record]) -> Counter[tuple[int, int]]:
    """Count the (width, height) of the files that can be decoded."""
    looks = [files[path] for path in dict.fromkeys(map(str, paths))]
    return Counter((look["size"][1], look["size"][0]) for look in looks if "size" in look)


def _list_formats(files: Mapping[str, Record]) -> tuple[str, ...]:
    counts = Counter(str(look["format"]) for look in files.values() if "format" in look)
    return tuple(f"{form} ({num:,})" for form, num in counts.most_common())


def _confirmer(workers: Workers, show: Progress, what: str) -> Callable[[list[SceneJob]], Mapping[SceneJob, Record]]:
    return lambda jobs: workers.run(compare_scenes, jobs, lambda it, num: show(what, it, num))

"""Compare the measured rows of a table: which of them may be compared at all, and what the tests say of those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.results.cells import NO_SELECTION, Group, Row
from dehaze_bench.results.comparisons import Comparison
from dehaze_bench.results.rank_tests import RankTest
from dehaze_bench.results.samples import Sample, Unit, read_sample
from dehaze_bench.results.significance import compare_rows, explain, rank_rows
from dehaze_bench.results.store import StoredRun


class Judged(NamedTuple):
    """Rows with their comparisons, in the order given, the test over all of them, and lines for the small print."""

    rows: list[Row]
    ranks: RankTest | None
    lines: list[str]


def judge(
    rows: Sequence[Row],
    runs: Sequence[Sequence[StoredRun]],
    baseline: str | None,
    metric: str,
    unit: Unit,
    ranked: Sequence[bool],
) -> Judged:
    """Compare rows with the one called `baseline`, by what their finished `runs` measured on each image.

    All that may be compared are, so that Holm's correction knows of them; `ranked` says which of those are ranked.
    Without a baseline rows are only ranked: those that may be compared with the first that has a selection rule.

    Raises:
        UsageError: no such row, a metric that is not there, or rows measured on different images.
    """
    labels = [row.label for row in rows]
    if baseline is not None and baseline not in labels:
        raise UsageError(f"no row '{baseline}' to compare with. {nearest(baseline, labels)}")
    group = _group(rows) if baseline is None else rows[labels.index(baseline)].group
    if group is None:
        who = "Nothing is ranked: no run" if baseline is None else f"Not compared with {baseline}: no run of it"
        return Judged([replace(row, incomparable="no baseline") for row in rows], None, [f"{who} is done."])
    metrics = {
        name: found.higher
        for run in chain(*runs)
        if run.record
        for name, found in run.record.evaluation.metrics.items()
    }
    if metric not in metrics:
        raise UsageError(f"rows cannot be compared by '{metric}', which is no metric here. {nearest(metric, metrics)}")
    higher = metrics[metric]
    reasons = [_why_not(row, group) for row in rows]
    samples = [
        None if reason else _sample(row.label, metric, mine)
        for row, mine, reason in zip(rows, runs, reasons, strict=True)
    ]
    usable = [sample for sample in samples if sample is not None]
    lines = []
    comparisons: dict[str, Comparison] = {}
    if baseline is not None:
        against = next(sample for sample in usable if sample.label == baseline)
        comparisons = compare_rows(against, [sample for sample in usable if sample is not against], higher, unit)
        lines += [explain(comparisons)] if comparisons else []
    ranks = rank_rows([s for s, take in zip(samples, ranked, strict=True) if s is not None and take], higher, unit)
    if ranks is not None:
        lines.append(f"{ranks.describe()}.")
    judged = [
        replace(row, comparison=comparisons.get(row.label), incomparable=reason)
        for row, reason in zip(rows, reasons, strict=True)
    ]
    return Judged(judged, ranks, lines)


def _group(rows: Sequence[Row]) -> Group | None:
    groups = [row.group for row in rows if row.group]
    return next((group for group in groups if group.select != NO_SELECTION), next(iter(groups), None))


def _why_not(row: Row, group: Group) -> str:
    """Why a row cannot be compared with rows of a group; empty where it can."""
    if row.group is None:
        return "nothing measured"
    for name in ("testset", "protocol"):
        if getattr(row.group, name) != getattr(group, name):
            return f"another {'test set' if name == 'testset' else name}"
    if row.group.select != group.select and NO_SELECTION not in (row.group.select, group.select):
        return "another selection rule"
    return ""


def _sample(label: str, metric: str, runs: Sequence[StoredRun]) -> Sample:
    records = [run.record for run in runs if run.record is not None]
    trained = not all(record.untrained or record.kind == "rerun" for record in records)
    return read_sample(label, metric, {run.record.seed: run.path for run in runs if run.record is not None}, trained)

"""The small print under a table: protocol, selection rule, seeds, decoder, machine, sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dehaze_bench.results.record import RunRecord
from dehaze_bench.results.reference import ReferenceSet

_ENV = ("device", "device_name", "backend", "torch", "python")
_SELECT = {
    "none": "none (nothing to choose: no training here)",
    "last": "last (weights of the last step)",
    "best@val": "best@val (best weights on held-out training images)",
    "best@test": "best@test (best weights on the test set itself: optimistic, kept to reproduce papers)",
}


def lines(records: Sequence[RunRecord], references: Sequence[ReferenceSet], note: str) -> tuple[str, ...]:
    """One line per fact that a reader needs to believe the table, in reading order."""
    found: list[str] = []
    evaluations = [record.evaluation for record in records]
    for text in _distinct(
        f"Protocol {e.protocol} on {e.testset} (n = {e.n} images): {e.protocol_note}" for e in evaluations
    ):
        found.append(text)
    _add(found, "Selection", (_SELECT.get(e.select, e.select) for e in evaluations))
    if records:
        seeds = ", ".join(str(seed) for seed in sorted({record.seed for record in records}))
        found.append(f"Seeds: {seeds}; n counts seeds, ± is the sample standard deviation over them (n ≥ 2).")
        found.append(
            "Bold and underlined: best and second best among measured rows that share test set, protocol and "
            "selection rule; printed numbers do not compete."
        )
    trained = [record.train for record in records if record.train]
    _add(found, "Training", (f"{train.steps} steps, {train.images} images" for train in trained))
    sizes = [record.cost.macs_size for record in records if record.cost.macs is not None and record.cost.macs_size]
    _add(found, "Input size of the MACs", (f"{height} x {width}" for height, width in sizes))
    printed = [reference.macs_size for reference in references if reference.macs_size]
    _add(found, "Input size of the printed MACs", (f"{height} x {width}" for height, width in printed))
    _add(found, "Decoder", (e.decoder for e in evaluations))
    _add(found, "Machine", (_machine(record) for record in records))
    found += [reference.note for reference in references if reference.note]
    if note:
        found.append(note)
    return tuple(found)


def _machine(record: RunRecord) -> str:
    return ", ".join(f"{name} {record.env[name]}" for name in _ENV if record.env.get(name))


def _add(found: list[str], head: str, facts: Iterable[str]) -> None:
    distinct = _distinct(fact for fact in facts if fact)
    if distinct:
        found.append(f"{head}: {'; '.join(distinct)}")


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))

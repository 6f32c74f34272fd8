"""The small print under a table: protocol, selection rule, seeds, decoder, machine, sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dehaze_bench.results.record import RunRecord
from dehaze_bench.results.reference import ReferenceSet

_ENV = ("device", "device_name", "threads", "torch", "python", "dehaze_bench")
_SELECT = {
    "none": "none (nothing to choose: no training here)",
    "last": "last (weights of the last step)",
    "best@val": "best@val (best weights on held-out training images)",
    "best@test": "best@test (best weights on the test set itself: optimistic, kept to reproduce papers)",
}


def lines(
    records: Sequence[RunRecord],
    references: Sequence[ReferenceSet],
    note: str,
    columns: Sequence[str] = (),
    judged: Sequence[str] = (),
) -> tuple[str, ...]:
    """One line per fact that a reader needs to believe the columns, in reading order; `judged` are those of tests."""
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
            "Bold and underlined: best and second best mean among measured rows that share test set, protocol and "
            "selection rule, which is no test of the difference; printed numbers do not compete."
        )
    found += judged
    trained = [record.train for record in records if record.train]
    _add(found, "Training", (f"{train.steps} steps, {train.images} images" for train in trained))
    sizes = [record.cost.macs_size for record in records if record.cost.macs is not None and record.cost.macs_size]
    _add(found, "Input size of the MACs", (f"{height} x {width}" for height, width in sizes))
    if "macs_paper" in columns:
        _add(found, "Rules of the papers' MACs", (record.cost.macs_rule or "" for record in records))
    if {"latency", "memory"} & {*columns}:
        _add(found, "Latency and memory", (record.cost.conditions or "" for record in records))
    printed = [reference.macs_size for reference in references if reference.macs_size]
    _add(found, "Input size of the printed MACs", (f"{height} x {width}" for height, width in printed))
    _add(found, "Decoder", (e.decoder for e in evaluations))
    _add(found, "Machine", (_machine(record) for record in records))
    if records:
        found.append(_provenance(records))
    found += [reference.note for reference in references if reference.note]
    if note:
        found.append(note)
    return tuple(found)


def _machine(record: RunRecord) -> str:
    facts = [f"{name} {record.env[name]}" for name in _ENV if record.env.get(name)]
    backend = record.env.get("backend") or record.env.get(
        "auto/cpu" if record.env.get("device") == "cpu" else "auto/cuda"
    )
    return ", ".join([*facts, f"operators {backend}"] if backend else facts)


def _provenance(records: Sequence[RunRecord]) -> str:
    days = sorted({record.finished[:10] for record in records})
    numerics = ", ".join(str(number) for number in sorted({record.numerics for record in records}))
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return (
        f"Provenance: {len(records)} run{'s' if len(records) > 1 else ''} (numerics {numerics}) finished {when}; the "
        "ids of the runs behind every number are in the CSV and the JSON of this table."
    )


def _add(found: list[str], head: str, facts: Iterable[str]) -> None:
    distinct = _distinct(fact for fact in facts if fact)
    if distinct:
        found.append(f"{head}: {'; '.join(distinct)}")


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))

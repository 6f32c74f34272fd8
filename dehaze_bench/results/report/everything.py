"""All finished runs as tables without an experiment: runs that differ in nothing but the seed are one row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dehaze_bench.results.cells import Table
from dehaze_bench.results.experiment import COST_COLUMNS, Experiment, ExperimentRow
from dehaze_bench.results.record import RunRecord
from dehaze_bench.results.reference import ReferenceSet
from dehaze_bench.results.store import Store, StoredRun
from dehaze_bench.results.tables import build_table

NAMING = ("model", "model/mixer", "scan")
UNSAID = ("native", "None", "null", "")  # choices that name nothing
FEW = 3  # settings that a label names besides its choices


def tabulate(runs: Sequence[StoredRun], store: Store, references: Sequence[ReferenceSet]) -> list[Table]:
    """One table per test set and protocol, sorted by its first metric; published numbers of the test set beneath."""
    records = [run.record for run in runs if run.record]
    known = {record.id: record for record in records}
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        groups.setdefault((record.evaluation.testset, record.evaluation.protocol), []).append(record)
    return [
        _table(testset, protocol, members, known, store, [r for r in references if r.testset == testset])
        for (testset, protocol), members in sorted(groups.items())
    ]


def _table(
    testset: str,
    protocol: str,
    records: list[RunRecord],
    known: Mapping[str, RunRecord],
    store: Store,
    references: list[ReferenceSet],
) -> Table:
    rows: dict[str, list[RunRecord]] = {}
    for record in records:
        rows.setdefault(_without_seed(record, known), []).append(record)
    members = [sorted(row, key=lambda record: (record.seed, record.id)) for row in rows.values()]
    labels = _label([row[0] for row in members])
    metrics = list(dict.fromkeys(name for record in records for name in record.evaluation.metrics))
    costs = [name for name in COST_COLUMNS if any(getattr(record.cost, name, None) is not None for record in records)]
    experiment = Experiment(
        name=f"{testset}-{protocol}",
        title=f"{testset}, protocol {protocol}",
        note="",
        base=(),
        rows=tuple(
            ExperimentRow(label, (), tuple(r.seed for r in row)) for label, row in zip(labels, members, strict=True)
        ),
        columns=(*costs, *metrics),
        sort=metrics[0] if metrics else None,
        references=(),
        path=Path(store.root),
    )
    ids = [[record.id for record in row] for row in members]
    return build_table(experiment, list(zip(experiment.rows, ids, strict=True)), store, references)


def _without_seed(record: RunRecord, known: Mapping[str, RunRecord]) -> str:
    """What two runs of one row share: everything that decides a number, but the seed."""
    config = {key: value for key, value in record.config.items() if key != "seed"}
    trained = known.get(str(config.get("weights")))
    if record.verb == "eval" and trained is not None and trained is not record:
        config["weights"] = _without_seed(trained, {})  # brothers by seed are measured as one row, as they were trained
    same = [config, record.verb, record.kind, record.evaluation.select, record.numerics]
    return json.dumps(same, sort_keys=True, default=str)


def _label(records: list[RunRecord]) -> list[str]:
    """A label per row from what was chosen; where two rows chose alike, the settings that tell them apart."""
    plain = [_plain_label(record) for record in records]
    labels = []
    for record, label in zip(records, plain, strict=True):
        twins = [dict(_leaves(other.config)) for other, name in zip(records, plain, strict=True) if name == label]
        mine = dict(_leaves(record.config))
        keys = sorted({key for twin in twins for key in twin if key != "seed"})
        apart = [key for key in keys if len({json.dumps(twin.get(key), default=str) for twin in twins}) > 1]
        given = [f"{key}={_text(mine[key])}" for key in apart if mine.get(key) is not None]
        said = given[:FEW] + (["…"] if len(given) > FEW else [])
        labels.append(f"{label} ({', '.join(said)})" if said else label)
    return [
        f"{label} [{record.id}]" if labels.count(label) > 1 else label
        for record, label in zip(records, labels, strict=True)
    ]


def _plain_label(record: RunRecord) -> str:
    chosen = [record.choices[name] for name in NAMING if record.choices.get(name, "") not in UNSAID]
    if record.untrained and chosen:
        chosen = chosen[:1]
    return ", ".join(chosen) or record.slug


def _text(value: Any) -> str:
    """A value as it is typed on the command line."""
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node

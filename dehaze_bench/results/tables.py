"""Tables as queries over run records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.results import footer
from dehaze_bench.results.cells import Cell, Group, Kind, Row, Table
from dehaze_bench.results.experiment import COST_COLUMNS, Experiment, ExperimentRow
from dehaze_bench.results.judging import Judged, judge
from dehaze_bench.results.measured_costs import MEASURED_COSTS, read_cost
from dehaze_bench.results.ranking import mark_best
from dehaze_bench.results.record import RunRecord
from dehaze_bench.results.reference import ReferenceRow, ReferenceSet
from dehaze_bench.results.selection import JUDGED, View, check_column, choose, columns_of, sort_rows
from dehaze_bench.results.statistics import summarise
from dehaze_bench.results.store import Store, StoredRun

AS_WRITTEN = View()


def build_table(
    experiment: Experiment,
    rows: Sequence[tuple[ExperimentRow, Sequence[str]]],
    store: Store,
    references: Sequence[ReferenceSet],
    view: View = AS_WRITTEN,
) -> Table:
    """Query the store for the runs of each row (one id per seed) and put the published numbers beneath.

    With a baseline, the view's or else the experiment's, the measured rows are compared with it image by image.

    Raises:
        UsageError: a column that no finished run and no reference knows; a row whose runs cannot be averaged; a view
            that names what is not there, or asks for a comparison that cannot be made.
    """
    runs = [[(run_id, store.get(run_id)) for run_id in ids] for _, ids in rows]
    records = [[_with_cost(run, experiment) for _, run in row if run and run.record] for row in runs]
    _check_columns(experiment, [record for row in records for record in row], references)
    measured = [
        _measured_row(experiment, label_row.label, row_runs, row_records)
        for (label_row, _), row_runs, row_records in zip(rows, runs, records, strict=True)
    ]
    baseline, metric = view.baseline or experiment.baseline, view.compare or experiment.compare
    found = Judged(measured, None, [])
    done = [[run for _, run in row if run and run.record] for row in runs]
    if baseline is not None or view.ranks:
        # By conditions on what is known before anything is compared: a verdict cannot choose what is ranked.
        known = [c for c in view.where if c.column not in JUDGED]
        found = _judge(experiment, measured, done, baseline, metric, choose(measured, known), view)
    shared = {(row.group.testset, row.group.protocol) for row in measured if row.group}
    printed = [[_printed_row(experiment, row, shared) for row in reference.rows] for reference in references]
    kept = choose([*found.rows, *(row for block in printed for row in block)], view.where)
    shown = mark_best(list(compress(found.rows, kept)))
    order = view.sort or experiment.sort
    if order is not None:
        every = [*found.rows, *(row for block in printed for row in block)]
        check_column(order.removeprefix("-"), [*experiment.columns, *columns_of(every)], "--sort")
    higher = next((c.higher for r in shown for c in r.cells if order and c.column == order.removeprefix("-")), None)
    lines = sort_rows(shown, order)
    rest = iter(kept[len(measured) :])
    for block in printed:  # test set by test set: values of two do not compare
        lines += sort_rows([row for row in block if next(rest)], order, higher)
    numbered, notes = _numbered(lines)
    small = footer.lines(
        [record for row in compress(records, kept) for record in row],
        references,
        experiment.note,
        experiment.columns,
        (*found.lines, *_of_view(view, sum(kept), len(kept))),
    )
    return Table(
        experiment.name,
        experiment.title,
        experiment.columns,
        tuple(numbered),
        small,
        notes,
        baseline=baseline,
        compared=metric if baseline is not None or view.ranks else "",
        ranks=found.ranks,
    )


def _judge(
    experiment: Experiment,
    rows: list[Row],
    runs: Sequence[Sequence[StoredRun]],
    baseline: str | None,
    metric: str,
    ranked: Sequence[bool],
    view: View,
) -> Judged:
    """Compare; what the command line asked for and cannot be had is an error, what the file says then is a line."""
    try:
        return judge(rows, runs, baseline, metric, experiment.unit, ranked)
    except UsageError as error:
        if view.baseline is not None or view.compare is not None or view.ranks:
            raise
        return Judged([replace(row, incomparable="not compared") for row in rows], None, [f"Not compared: {error}"])


def _of_view(view: View, shown: int, known: int) -> list[str]:
    if not view.where:
        return []
    return [f"Rows with {' and '.join(map(str, view.where))}: {shown} of {known}. Marks are among these."]


def _with_cost(run: StoredRun, experiment: Experiment) -> RunRecord:
    """The record of a finished run, with what was measured of its network later where a column asks for it."""
    assert run.record is not None
    if not set(MEASURED_COSTS) & set(experiment.columns):
        return run.record
    return replace(run.record, cost=read_cost(run.path, run.record.cost))


def comparison(table: Table) -> tuple[list[str], list[list[str | float | int | None]]]:
    """The table as plain columns and rows, one row per backbone, for a tracker or a data frame."""
    metrics = [column for column in table.columns if column not in COST_COLUMNS]
    costs = [column for column in table.columns if column in COST_COLUMNS]
    head = ["label", "kind", "model", "mixer", "scan", *costs]
    for column in metrics:
        head += [column, f"{column}_std", f"{column}_n"]
    judged = ["difference", "low", "high", "p_holm", "n_paired", "verdict"] if table.baseline is not None else []
    head += [*judged, "testset", "protocol", "select", "runs", "remark"]
    lines: list[list[str | float | int | None]] = []
    for row in table.rows:
        cells = {cell.column: cell for cell in row.cells}
        choice = row.choices.get
        line: list[str | float | int | None] = [row.label, row.kind]
        line += [
            choice("model"),
            choice("model/mixer"),
            choice("scan"),
            *(cells[name].value for name in costs),
        ]
        for column in metrics:
            line += [cells[column].value, cells[column].std, cells[column].n]
        if judged:
            found = row.comparison
            line += (
                [found.difference, found.low, found.high, found.adjusted, found.n, found.words]
                if found
                else [None] * 5 + [row.incomparable or None]
            )
        line += [*(row.group or (None, None, None))]
        line += [" ".join(sorted({run for cell in row.cells for run in cell.runs})), row.remark]
        lines.append(line)
    return head, lines


def _measured_row(
    experiment: Experiment, label: str, runs: list[tuple[str, StoredRun | None]], records: list[RunRecord]
) -> Row:
    groups = {Group(r.evaluation.testset, r.evaluation.protocol, r.evaluation.select) for r in records}
    kinds = {record.kind for record in records}
    if len(groups) > 1 or len(kinds) > 1:
        found = ", ".join(sorted(map(str, groups))) + "; kinds " + ", ".join(sorted(kinds))
        raise UsageError(f"{experiment.path}: the runs of row '{label}' cannot be averaged: {found}")
    group = next(iter(groups), None)
    kind: Kind = "rerun" if kinds == {"rerun"} else "ours"
    missing = _why_missing(runs)
    first = records[0] if records else None
    return Row(
        label=label,
        kind=kind,
        cells=tuple(_measured_cell(column, kind, group, records, missing) for column in experiment.columns),
        group=group,
        untrained=bool(records) and all(record.untrained for record in records),
        done=len(records),
        planned=len(runs),
        remark="" if missing == "not run" else missing,
        choices=first.choices if first else {},
    )


def _measured_cell(column: str, kind: Kind, group: Group | None, records: list[RunRecord], missing: str) -> Cell:
    if column in COST_COLUMNS:
        having = [record for record in records if getattr(record.cost, column) is not None]
        value = float(getattr(having[0].cost, column)) if having else None
        higher, std = None, None
    else:
        having = [record for record in records if column in record.evaluation.metrics]
        value = std = higher = None
        if having:
            summary = summarise([record.evaluation.metrics[column].mean for record in having])
            value, std = summary.mean, summary.std
            higher = having[0].evaluation.metrics[column].higher
    if not having and records:
        missing = "not measured"
    runs = tuple(record.id for record in having)
    return Cell(column, kind, value, std, len(having), runs, group, higher, missing)


def _printed_row(experiment: Experiment, row: ReferenceRow, shared: set[tuple[str, str]]) -> Row:
    group = Group(row.testset, row.protocol, None)
    flagged = (row.testset, row.protocol) not in shared
    cells = []
    for column in experiment.columns:
        value = row.values.get(column)
        flag = flagged and value is not None and column not in COST_COLUMNS
        missing = "" if value is not None else "not published"
        cells.append(Cell(column, "printed", value, group=group, missing=missing, flagged=flag))
    source = f"printed: {row.source} ({row.provenance}); protocol {row.protocol} on {row.testset}"
    label = f"{row.label} (unverified)" if row.provenance == "unverified" else row.label
    return Row(label, "printed", tuple(cells), group, remark=f"{source}; {row.note}" if row.note else source)


def _why_missing(runs: list[tuple[str, StoredRun | None]]) -> str:
    reasons = []
    for _, run in runs:
        if run is None or run.state == "empty":
            reasons.append("not run")
        elif run.state in ("failed", "broken"):
            reasons.append(f"{run.state}: {run.reason.splitlines()[0] if run.reason else 'no reason recorded'}")
        elif run.state != "done":
            reasons.append(run.state)
    why = "; ".join(dict.fromkeys(reasons))
    done = len(runs) - len(reasons)
    return f"{done} of {len(runs)} seeds ({why})" if done and reasons else why


def _numbered(rows: list[Row]) -> tuple[list[Row], tuple[str, ...]]:
    notes: dict[str, int] = {}
    for row in rows:
        if row.remark:
            notes.setdefault(row.remark, len(notes) + 1)
    return [replace(row, note=notes.get(row.remark)) for row in rows], tuple(notes)


def _check_columns(experiment: Experiment, records: list[RunRecord], references: Sequence[ReferenceSet]) -> None:
    known = {name for record in records for name in record.evaluation.metrics} | set(COST_COLUMNS)
    if records:
        known |= {name for reference in references for row in reference.rows for name in row.values}
        for column in experiment.columns:
            if column not in known:
                raise UsageError(f"{experiment.path}: no run measured column '{column}'. {nearest(column, known)}")

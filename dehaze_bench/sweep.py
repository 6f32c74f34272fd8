"""Experiments: which runs they need, which of those are done, and the table that comes of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dehaze_bench.compose import compose_run
from dehaze_bench.errors import BenchError, UsageError, nearest
from dehaze_bench.registry import experiment_dirs
from dehaze_bench.remembered import Memory
from dehaze_bench.results import plots
from dehaze_bench.results.cells import Table
from dehaze_bench.results.experiment import COST_COLUMNS, Experiment, Job, find_experiment, is_profile
from dehaze_bench.results.files import write_text_atomic
from dehaze_bench.results.record import BEST, TEMPORAL
from dehaze_bench.results.reference import ReferenceSet
from dehaze_bench.results.renderers import FORMATS, render
from dehaze_bench.results.selection import View
from dehaze_bench.results.store import Store
from dehaze_bench.results.tables import AS_WRITTEN, build_table
from dehaze_bench.track.sink import Mode


@dataclass(frozen=True)
class Planned:
    """One run of an experiment: its overrides, its identity, and the state of its directory.

    The state is "absent" where the published weights that a row evaluates are not on this machine, "waiting" where the
    run whose weights it measures is not done.
    """

    job: Job
    overrides: tuple[str, ...]
    id: str
    name: str
    state: str
    reason: str = ""

    @property
    def label(self) -> str:
        return f"{self.job.label}, seed {self.job.seed}"


@dataclass(frozen=True)
class Plan:
    """An experiment with its composed runs and the folders that they name."""

    experiment: Experiment
    runs: tuple[Planned, ...]
    runs_dir: Path
    tables_dir: Path
    track: str


def plan(name: str, overrides: Sequence[str] = ()) -> Plan:
    """Compose every run of an experiment; `overrides` follow those of the file.

    Raises `UsageError` for an unknown experiment and for any row that cannot be composed or checked.
    """
    experiment = Experiment.load(find_experiment(name, experiment_dirs()))
    planned: list[Planned] = []
    trained: dict[tuple[str, int], Path] = {}
    runs_dir, tables_dir, track, memory = Path("runs"), Path("tables"), "local", Memory()
    for job in experiment.jobs():
        row = (*job.overrides, *overrides)
        if job.of is not None:
            row = (*row, f"weights={_quoted(trained[job.of, job.seed])}")
        try:
            known = memory.identify(row)
        except UsageError as error:
            raise UsageError(f"{experiment.path}, row '{job.label}': {error}") from error
        runs_dir, tables_dir, track = Path(known.runs), Path(known.tables), known.track
        if known.reason:  # weights that are not here, or not yet
            state, reason = ("absent", known.reason) if job.of is None else ("waiting", f"'{job.of}' is not done")
            planned.append(Planned(job, row, f"{state}-{len(planned)}", "", state, reason))
            continue
        trained[job.label, job.seed] = runs_dir / known.name / BEST
        found = Store(runs_dir).get(known.id)
        state, reason = (found.state, found.reason) if found is not None else ("empty", "")
        planned.append(Planned(job, row, known.id, known.name, state, reason))
    memory.save()
    return Plan(experiment, tuple(planned), runs_dir, tables_dir, track)


def check_columns(plan: Plan) -> None:
    """Raise `UsageError` for a column that no run will measure and nothing published has, before hours are spent."""
    references = [ReferenceSet.load(path) for path in plan.experiment.references]
    known = {name for reference in references for row in reference.rows for name in row.values} | set(COST_COLUMNS)
    missing = [column for column in plan.experiment.columns if column not in known]
    for run in plan.runs:
        if not missing:
            return
        cfg = compose_run(run.overrides).cfg
        known |= {str(name) for name in (*cfg.protocol.get("metrics", missing), *cfg.protocol.get("no_reference", ()))}
        known |= {TEMPORAL} if "frames" in cfg.testset else set()
        missing = [column for column in missing if column not in known]
    if missing:
        raise UsageError(f"{plan.experiment.path}: no run measures column '{missing[0]}'. {nearest(missing[0], known)}")


def check_data(runs: Sequence[Planned]) -> None:
    """Raise `UsageError` where none of the runs would find its test set here: a wrong root, as a rule."""
    from dehaze_bench import build

    groups = ("dataset", "testset", "recipe", "paths")
    places = {tuple(t for t in run.overrides if t.lstrip("+~").startswith(groups)): run for run in runs}
    first: UsageError | None = None
    for planned in places.values():
        try:
            build.testset(compose_run(planned.overrides).cfg)
            return
        except UsageError as error:
            first = first or error
    if first is not None:
        raise first


def check(name: str, overrides: Sequence[str] = ()) -> str:
    """Check everything that can be known of an experiment before it starts; return what to print."""
    path = find_experiment(name, experiment_dirs())
    if is_profile(path):
        from dehaze_bench import profile

        return profile.check(path, overrides)
    from dehaze_bench import build, source

    found = plan(name, overrides)
    for planned in found.runs:
        try:
            cfg = compose_run(planned.overrides).cfg
            if cfg.weights is None:
                build.check_all(cfg)
            elif planned.state == "waiting":
                source.check_measure(cfg)
            else:
                source.check_evaluation(cfg)
        except BenchError as error:
            raise UsageError(f"Row '{planned.label}': {error}") from error
    return f"{found.experiment.name}: {len(found.runs)} runs, all sound"


def _quoted(path: Path) -> str:
    """Return a path as the value of an override."""
    return "'" + str(path).replace("'", "\\'") + "'"


def table_of(plan: Plan, view: View = AS_WRITTEN) -> Table:
    """Return the table of an experiment from the runs that are done, published numbers beneath."""
    ids: dict[int, list[str]] = {}
    for run in plan.runs:
        ids.setdefault(run.job.row, []).append(run.id)
    rows = [(row, ids[index]) for index, row in enumerate(plan.experiment.rows)]
    references = [ReferenceSet.load(path).only(plan.experiment.reference_source) for path in plan.experiment.references]
    return build_table(plan.experiment, rows, Store(plan.runs_dir), references, view)


def write_table(table: Table, folder: Path) -> list[Path]:
    """Write the table in every format, and its plots, under `folder`/<experiment>/ and return the paths.

    Without matplotlib a line says what is missing.
    """
    target = folder / table.name
    target.mkdir(parents=True, exist_ok=True)
    paths = [target / f"table.{form}" for form in FORMATS]
    for path, form in zip(paths, FORMATS, strict=True):
        write_text_atomic(path, render(table, form))
    try:
        return [*paths, *plots.draw_all(table, target)]
    except UsageError as error:
        print(error, file=sys.stderr)
        return paths


def tracked(plan: Plan) -> list[Path]:
    """Return the W&B files that lie in the directories of the experiment's runs."""
    return sorted(path for run in plan.runs for path in (plan.runs_dir / run.name).rglob("*.wandb"))


def publish(table: Table, plan: Plan) -> list[str]:
    """Send the table to W&B where the runs are sent, else write it for `wandb sync`; return where it is now."""
    from dehaze_bench import publication

    mode: Mode = "online" if plan.track == "online" else "offline"
    sent = publication.publish_table(table, plan, publication.Destination(mode, patience=publication.LIVE_PATIENCE))
    if sent.problem:
        return [f"not sent: {sent.problem}. `dehaze-bench publish --table {plan.experiment.path}` sends it later."]
    written = sorted((plan.tables_dir / table.name).glob(f"wandb/offline-run-*-table-{table.name}/*.wandb"))
    return [sent.url] if sent.url else [str(path) for path in written]

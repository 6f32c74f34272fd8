"""Experiments: which runs they need, which of those are done, and the table that comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dehaze_bench import config
from dehaze_bench.compose import compose_run, identify_run
from dehaze_bench.errors import BenchError, UsageError
from dehaze_bench.registry import experiment_dirs
from dehaze_bench.results.cells import Table
from dehaze_bench.results.experiment import Experiment, Job, find_experiment, is_profile
from dehaze_bench.results.files import write_text_atomic
from dehaze_bench.results.reference import ReferenceSet
from dehaze_bench.results.renderers import render
from dehaze_bench.results.store import Store
from dehaze_bench.results.tables import build_table, comparison

FORMATS = ("md", "csv", "tex", "html")


@dataclass(frozen=True)
class Planned:
    """One run of an experiment: its overrides, its identity, and the state of its directory.

    The state is "absent" where the published weights that a row evaluates are not on this machine.
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
    runs_dir, tables_dir, track = Path("runs"), Path("tables"), "local"
    for job in experiment.jobs():
        row = (*job.overrides, *overrides)
        try:
            composed = compose_run(row)
            config.check_keys(composed.cfg)
        except UsageError as error:
            raise UsageError(f"{experiment.path}, row '{job.label}': {error}") from error
        runs_dir, tables_dir = Path(composed.cfg.paths.runs), Path(composed.cfg.paths.tables)
        track = str(composed.cfg.track.get("mode", "disabled"))
        try:
            identity = identify_run(composed)
        except UsageError as error:  # published weights that are not here
            planned.append(Planned(job, row, f"absent-{len(planned)}", "", "absent", str(error)))
            continue
        found = Store(runs_dir).get(identity.id)
        state, reason = (found.state, found.reason) if found is not None else ("empty", "")
        planned.append(Planned(job, row, identity.id, identity.name, state, reason))
    return Plan(experiment, tuple(planned), runs_dir, tables_dir, track)


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
            else:
                source.check_evaluation(cfg)
        except BenchError as error:
            raise UsageError(f"Row '{planned.label}': {error}") from error
    return f"{found.experiment.name}: {len(found.runs)} runs, all sound"


def table_of(plan: Plan) -> Table:
    """Return the table of an experiment from the runs that are done, published numbers beneath."""
    ids: dict[int, list[str]] = {}
    for run in plan.runs:
        ids.setdefault(run.job.row, []).append(run.id)
    rows = [(row, ids[index]) for index, row in enumerate(plan.experiment.rows)]
    references = [ReferenceSet.load(path).only(plan.experiment.reference_source) for path in plan.experiment.references]
    return build_table(plan.experiment, rows, Store(plan.runs_dir), references)


def write_table(table: Table, folder: Path) -> list[Path]:
    """Write the table in every format under `folder`/<experiment>/ and return the paths."""
    target = folder / table.name
    target.mkdir(parents=True, exist_ok=True)
    paths = [target / f"table.{form}" for form in FORMATS]
    for path, form in zip(paths, FORMATS, strict=True):
        write_text_atomic(path, render(table, form))
    return paths


def tracked(plan: Plan) -> list[Path]:
    """Return the W&B files that lie in the directories of the experiment's runs."""
    return sorted(path for run in plan.runs for path in (plan.runs_dir / run.name).rglob("*.wandb"))


def publish(table: Table, folder: Path) -> list[Path]:
    """Write the table as an offline W&B run under `folder`/<experiment>/ and return its files."""
    from dehaze_bench.track.wandb import publish_table

    columns, rows = comparison(table)
    return publish_table(table.name, columns, rows, folder / table.name)

"""The verb `publish`: finished and failed runs, and tables, to W&B from their files, as often as wanted.

A run is replayed from its directory through the same sink that reports a run while it works, under the same id: what a
server holds already is not sent again, so that publishing twice leaves one run.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from dehaze_bench import arguments, config, sweep
from dehaze_bench.arguments import Arguments
from dehaze_bench.compose import compose_run
from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.registry import experiment_dirs
from dehaze_bench.results import plots
from dehaze_bench.results import record as records
from dehaze_bench.results.cells import Table
from dehaze_bench.results.experiment import COST_COLUMNS, find_experiment, list_experiments
from dehaze_bench.results.files import read_json
from dehaze_bench.results.store import Store, StoredRun
from dehaze_bench.results.tables import comparison
from dehaze_bench.track.jsonl import read_history
from dehaze_bench.track.pictures import choose
from dehaze_bench.track.sink import EvaluationView, Mode, Picture, RunInfo, check_mode
from dehaze_bench.track.wandb import WandbSink, link
from dehaze_bench.track.wandb_layout import Layout

DEFAULT_PATIENCE = 300.0  # seconds for each run or table; nobody waits beside it
LIVE_PATIENCE = 15.0  # at the end of a sweep
SENT = ("done", "failed", "interrupted")
COMPARISON = "comparison"
_SUMMARY_COSTS = ("params", "macs", "macs_paper")  # the others are measured later, and stand in no result
TABLE_FILES = (".md", ".tex", ".html", ".csv", ".json", ".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Destination:
    """Where to send: what is None is taken from the run or the experiment."""

    mode: Mode = "online"
    project: str | None = None
    entity: str | None = None
    max_images: int = 8
    patience: float = DEFAULT_PATIENCE


@dataclass(frozen=True)
class Sent:
    """What became of one run or table: `reached` says that W&B started, `problem` is empty where all was sent.

    `note` says what a server may or may not offer beside that: a saved view of the table's runs.
    """

    name: str
    url: str
    problem: str
    reached: bool
    note: str = ""


def run(argv: Arguments) -> int:
    """Publish everything that is named; 1 where something could not be sent."""
    given = {}
    for key in ("mode", "project", "entity", "max_images", "patience"):
        given[key], argv = arguments.assignment(argv, f"track.{key}")
    destination = _destination(given)
    alone, argv = arguments.flag(argv, "--table")
    names = [text for text in argv if "=" not in text and not text.startswith(("-", "~"))]
    overrides = [text for text in argv if text not in names]
    arguments.only_overrides("publish", overrides)
    if not names:
        raise UsageError("publish needs a run, a folder of runs or an experiment: dehaze-bench publish runs/")
    runs_dir = Path(next((text.partition("=")[2] for text in overrides if text.startswith("paths.runs=")), "runs"))
    runs: dict[Path, StoredRun] = {}
    plans = []
    for name in names:
        found = _find_runs(name, runs_dir)
        if found is None:
            plans.append(sweep.plan(_experiment(name, runs_dir), overrides))
            members = [Store(plans[-1].runs_dir).get(planned.id) for planned in plans[-1].runs]
            found = [] if alone else [member for member in members if member is not None and member.state in SENT]
        runs |= {stored.path: stored for stored in found}
    return _publish_all(list(runs.values()), plans, destination)


def _publish_all(runs: Sequence[StoredRun], plans: Sequence[sweep.Plan], destination: Destination) -> int:
    """Publish one after the other; where W&B cannot even start, the rest is named and not tried."""
    total, unsent, reached = len(runs) + len(plans), 0, True
    jobs: list[StoredRun | sweep.Plan] = [*runs, *plans]
    for number, job in enumerate(jobs, start=1):
        name = job.path.name if isinstance(job, StoredRun) else f"table {job.experiment.name}"
        if not reached:
            sent = Sent(name, "", "not tried after the failure above", False)
        elif isinstance(job, StoredRun):
            sent = publish_run(job, destination)
        else:
            sent = publish_table(sweep.table_of(job), job, destination)
        reached = reached and (sent.reached or destination.mode != "online")
        unsent += bool(sent.problem)
        where = f"NOT SENT: {sent.problem}" if sent.problem else sent.url or "written for `wandb sync`"
        print(f"[{number}/{total}] {sent.name}  {where}", file=sys.stderr if sent.problem else sys.stdout, flush=True)
        if sent.note:
            print(f"    {sent.note}", flush=True)
    print(f"{total - unsent} published, {unsent} not" + ("; publish again to send the rest" if unsent else ""))
    return 1 if unsent else 0


def publish_run(stored: StoredRun, destination: Destination = Destination()) -> Sent:
    """Replay one run from its directory: history, rows and pictures of its test set, result or failure."""
    if stored.state not in SENT:
        why = f"its directory is {stored.state}" + (f": {stored.reason}" if stored.reason else "")
        return Sent(stored.path.name, "", why, reached=True)
    try:
        cfg = OmegaConf.load(stored.path / "config.yaml")
        assert isinstance(cfg, DictConfig)
        half = stored.record.config if stored.record is not None else config.scientific(cfg)
        result = _result(stored)
        view = _view(stored.path, stored.record) if stored.record is not None else None
    except (UsageError, OSError, ValueError) as error:
        return Sent(stored.path.name, "", str(error), reached=True)
    track = cfg.get("track") or {}
    sink = _sink(destination, track.get("project"), track.get("entity"))
    sink.start(RunInfo(stored.id, stored.slug, stored.path, config=half))
    for step, values in read_history(stored.path / "metrics.jsonl"):
        sink.log(step, values)
    if view is not None:
        sink.evaluation(view)
    sink.finish(result)
    if not sink.problem:
        _drop_older(stored.path, stored.id)
    return Sent(stored.path.name, sink.url, sink.problem, sink.reached)


def publish_table(table: Table, plan: sweep.Plan, destination: Destination) -> Sent:
    """Send the table of an experiment, with a link to every run, and the files and plots that lie beside it."""
    folder = plan.tables_dir / table.name
    folder.mkdir(parents=True, exist_ok=True)
    run_id = f"table-{table.name}"
    track = compose_run(plan.runs[0].overrides).cfg.track
    sink = _sink(destination, track.get("project"), track.get("entity"))
    sink.start(RunInfo(run_id, "experiment", folder, config={"experiment": table.name, "title": table.title}))
    sink.table(COMPARISON, *_with_links(*comparison(table), Store(plan.runs_dir)))
    files = [path for path in sorted(folder.glob("*")) if path.suffix in TABLE_FILES]
    shown = [*files, *_drawn(table, files, folder / "wandb" / "plots")] if files else []
    if shown:
        sink.files(run_id, "table", shown)
    sink.layout(_layout(table, plan, f"experiment-{run_id}", shown))
    sink.finish({"footer": list(table.footer)})
    if not sink.problem:
        _drop_older(folder, run_id)
    view = sink.view.get("url")
    note = f"saved view: {view}" if view else ""
    if destination.mode == "online" and sink.reached and not note:
        note = f"no saved view of its runs: {sink.view.get('why') or 'no answer in time'}"
    return Sent(f"table {table.name}", sink.url, sink.problem, sink.reached, note)


def _layout(table: Table, plan: sweep.Plan, name: str, files: Sequence[Path]) -> Layout:
    """A view of the table, which the run `name` holds, and of the runs behind it."""
    testsets = dict.fromkeys(row.group.testset for row in table.rows if row.group and row.kind != "printed")
    metrics = [column for column in table.columns if column not in COST_COLUMNS]
    return Layout(
        title=f"{table.name}: {table.title}",
        names=[name, *dict.fromkeys(planned.name for planned in plan.runs)],
        table=COMPARISON,
        metrics=[f"{testset}/{metric}" for testset in testsets for metric in metrics],
        costs=[f"cost.{column}" for column in table.columns if column in _SUMMARY_COSTS],
        plots=[f"plots/{path.stem}" for path in files if path.suffix == ".png"],
    )


def _drawn(table: Table, files: Sequence[Path], folder: Path) -> list[Path]:
    """The vector plots among the files of a table as PNG, which W&B can show; none without matplotlib."""
    metric = table.compared or plots.metric_of(table)
    drawn = []
    with suppress(UsageError):
        for path in (path for path in files if path.suffix == ".svg"):
            target = folder / f"{path.stem}.png"
            folder.mkdir(parents=True, exist_ok=True)
            if path.stem == "ranks" and table.ranks is not None:
                plots.draw_ranks(table.ranks, table.title, target)
            elif path.stem.startswith("quality_") and metric is not None:
                plots.draw_quality(table, path.stem.removeprefix("quality_"), metric, target)
            if target.is_file():
                drawn.append(target)
    return drawn


def _with_links(
    columns: list[str], rows: list[list[str | float | int | None]], store: Store
) -> tuple[list[str], list[list[str | float | int | None]]]:
    """Put a column per seed in the place of the ids of runs, since a cell with one address alone is a link."""
    place = columns.index("runs")
    ids = [str(row[place] or "").split() for row in rows]
    count = max([1, *map(len, ids)])
    head = [*columns[:place], *(f"run {number}" for number in range(1, count + 1)), *columns[place + 1 :]]
    lines = []
    for row, names in zip(rows, ids, strict=True):
        links = [link(name, str(store.path(name) or name)) for name in names]
        lines.append([*row[:place], *links, *[None] * (count - len(names)), *row[place + 1 :]])
    return head, lines


def _drop_older(folder: Path, run_id: str) -> None:
    """Remove W&B's files of earlier attempts: the last holds all that they do, and `wandb sync` would repeat them."""
    found = folder.glob(f"wandb/*run-*-{run_id}")
    for old in sorted(found, key=lambda path: path.name.removeprefix("offline-"))[:-1]:
        shutil.rmtree(old, ignore_errors=True)


def _sink(destination: Destination, project: Any, entity: Any) -> WandbSink:
    return WandbSink(
        mode=destination.mode,
        project=destination.project or project or "dehaze-bench",
        entity=destination.entity or entity,
        max_images=destination.max_images,
        patience=destination.patience,
        live=False,
        fallback=False,
    )


def _result(stored: StoredRun) -> dict[str, Any]:
    if stored.record is not None:
        return stored.record.to_dict()
    if stored.state == "failed":
        failure = read_json(stored.path / records.FAILED)
        assert isinstance(failure, dict)
        return failure
    return {"error": "the run was interrupted", "type": "Interrupted"}


def _view(folder: Path, record: records.RunRecord) -> EvaluationView:
    """What the run reported of its test set: means, rows, and the pictures that it kept, in the same order."""
    found = record.evaluation
    means = {name: value.mean for name, value in found.metrics.items()}
    rows = [(row.name, row.values) for row in records.read_per_image(folder / records.PER_IMAGE)]
    pictures = list(_pictures(folder / "images" / found.testset, _order(rows, record)))
    return EvaluationView(found.testset, found.step or 0, means, rows, pictures)


def _order(rows: Sequence[tuple[str, dict[str, float]]], record: records.RunRecord) -> list[str]:
    """Names of images, those first that a run shows: its sample, the worst and the best."""
    first = next(iter(record.evaluation.metrics.items()), None)
    names = [name for name, _ in rows]
    if first is None or any(first[0] not in values for _, values in rows):
        return names
    shown = choose([values[first[0]] for _, values in rows], first[1].higher)
    return [*(names[index] for index in shown), *names]


def _pictures(folder: Path, names: Sequence[str]) -> Iterator[Picture]:
    for name in dict.fromkeys(names):
        paths = [folder / kind / f"{name}.png" for kind in ("hazy", "", "clear")]
        if paths[0].is_file() and paths[1].is_file():
            hazy, restored = (np.asarray(Image.open(path).convert("RGB")) for path in paths[:2])
            truth = np.asarray(Image.open(paths[2]).convert("RGB")) if paths[2].is_file() else None
            yield Picture(name, hazy, restored, truth)


def _find_runs(name: str, runs_dir: Path) -> list[StoredRun] | None:
    """The runs that a name stands for: a run directory, an id, a folder of runs; None for something else."""
    path = Path(name)
    if path.is_dir():
        stored = _named(path.absolute())
        if stored is not None:
            return [stored]
        return [run for run in Store(path).runs() if run.state in (*SENT, "broken")]
    stored = _named(runs_dir / name) or Store(runs_dir).get(name)
    return None if stored is None else [stored]


def _named(path: Path) -> StoredRun | None:
    stored = Store(path.parent).get(path.name[-8:])
    return stored if stored is not None and stored.path.name == path.name else None


def _experiment(name: str, runs_dir: Path) -> str:
    """The name, where it is that of an experiment; raises `UsageError` with the nearest of all that could be meant."""
    try:
        find_experiment(name, experiment_dirs())
    except UsageError:
        known = [run.path.name for run in Store(runs_dir).runs()]
        known += [found.name for found in list_experiments(experiment_dirs())]
        raise UsageError(
            f"'{name}' is neither a run under {runs_dir} nor a folder of runs nor an experiment. {nearest(name, known)}"
        ) from None
    return name


def _destination(given: dict[str, str | None]) -> Destination:
    """The destination that `track.KEY=VALUE` describes; raises `UsageError` for a value that cannot be."""
    found = Destination()
    if given["mode"] is not None:
        check_mode(given["mode"])
        if given["mode"] == "disabled":
            raise UsageError("track.mode=disabled sends nothing: publish takes online or offline.")
        found = replace(found, mode=cast(Mode, given["mode"]))
    images = arguments.integer(given["max_images"], "track.max_images")
    if images is not None:
        found = replace(found, max_images=images)
    if given["patience"] is not None:
        try:
            found = replace(found, patience=float(given["patience"]))
        except ValueError:
            raise UsageError(f"track.patience={given['patience']} is not a number of seconds.") from None
    return replace(found, project=given["project"], entity=given["entity"])

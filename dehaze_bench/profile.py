"""`dehaze-bench profile`: what networks cost over resolution, by the command line or by an experiment of that kind."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dehaze_bench import arguments, build, counting
from dehaze_bench.arguments import Arguments
from dehaze_bench.compose import compose_run
from dehaze_bench.environment import describe_environment
from dehaze_bench.errors import BenchError, UsageError, nearest
from dehaze_bench.profiling import picture, table
from dehaze_bench.profiling.measure import Settings
from dehaze_bench.profiling.rows import MEASURED, Row, attach, growths, to_csv, to_data
from dehaze_bench.profiling.worker import Failure, ask, describe
from dehaze_bench.registry import experiment_dirs, list_choices
from dehaze_bench.results.costs import CostExperiment, CostRow
from dehaze_bench.results.experiment import find_experiment, is_profile
from dehaze_bench.results.files import write_json_atomic, write_text_atomic

OPTIONS = ("model", "size", "rule", "train", "batch", "repeats", "limit", "out", "device")
COLUMNS_BY_DEFAULT = ("params", "macs", "macs_paper", "latency", "throughput", "memory")
SIZES_BY_DEFAULT = (128, 256, 512)
AD_HOC = "profile"


@dataclass(frozen=True)
class Subject:
    """A network to profile: its blueprint (see `build.blueprint`) and the line of the experiment that asks for it."""

    row: CostRow
    blueprint: Mapping[str, Any]


@dataclass(frozen=True)
class How:
    """How to measure; `rule` None counts MACs by the rule of each network's paper."""

    device: str
    rule: str | None
    modes: tuple[bool, ...]
    settings: Settings
    limit: float


def run(argv: Arguments) -> int:
    """Do the verb: profile, print, write the files; 1 if a network failed at a size, else 0."""
    given: dict[str, str] = {}
    for name in OPTIONS:
        value, argv = arguments.assignment(argv, name)
        if value is not None:
            given[name] = value
    named = [text for text in argv if "=" not in text and not text.startswith(("-", "~"))]
    overrides = [text for text in argv if text not in named]
    arguments.only_overrides("profile", overrides)
    if len(named) == 1 and not is_profile(find_experiment(named[0], experiment_dirs())):
        from dehaze_bench import profile_runs

        return profile_runs.run(named[0], given, overrides)
    device = str(build.device(compose_run([f"runtime.device={given.get('device', 'auto')}"]).cfg))
    experiment = _experiment(named, given, device)
    how = _how(given, experiment, device)
    subjects = [_subject(row, overrides, experiment.path) for row in experiment.rows]
    folder = Path(given.get("out", f"tables/{experiment.name}"))
    rows = _sorted(experiment, list(_rows(experiment, subjects, how)))
    notes = [experiment.note, *(reference.note for reference in experiment.references)]
    lines = [*table.footer(rows), *_conditions(experiment, how), *(note for note in notes if note)]
    table.print_table(experiment.title, rows, experiment.columns, lines)
    for path in _write(experiment, rows, lines, folder, device):
        print(path)
    return 1 if any(row.error for row in rows) else 0


def check(path: Path, overrides: Sequence[str] = ()) -> str:
    """Compose and build every row of an experiment of this kind, without memory; return what to print."""
    experiment = CostExperiment.load(path)
    for row in experiment.rows:
        _meta(_subject(row, overrides, path))
    return f"{experiment.name}: {len(experiment.rows)} networks, all sound"


def _experiment(named: Sequence[str], given: Mapping[str, str], device: str) -> CostExperiment:
    """Return the experiment of that name, or one made of `model=` and `size=`."""
    sizes = tuple(dict.fromkeys(_numbers(given["size"], "size"))) if "size" in given else ()
    if len(named) > 1 or (named and "model" in given):
        raise UsageError(f"profile takes one experiment or model=NAME,NAME, not both: {', '.join(named)}.")
    if named:
        found = CostExperiment.load(find_experiment(named[0], experiment_dirs()))
        if device == "cpu":
            found = replace(found, sizes=found.sizes_cpu, batch=found.batch_cpu)
        return replace(found, sizes=sizes or found.sizes)
    if "model" not in given:
        raise UsageError("profile needs networks: dehaze-bench profile model=vim_t,deit_ti size=128,256,512.")
    names = list(dict.fromkeys(name for name in given["model"].split(",") if name))
    rows = tuple(CostRow(name, name, (), (), "", "") for name in names)
    sizes = sizes or SIZES_BY_DEFAULT
    title = f"Cost of {', '.join(names) if len(names) < 5 else f'{len(names)} networks'}"
    return CostExperiment(AD_HOC, title, "", rows, sizes, sizes, 1, 1, False, COLUMNS_BY_DEFAULT, (), Path(AD_HOC))


def _how(given: Mapping[str, str], experiment: CostExperiment, device: str) -> How:
    if given.get("train", "false").lower() not in ("true", "false"):
        raise UsageError(f"train={given['train']} must be true or false.")
    if "rule" in given:
        counting.find_rule(given["rule"])
    numbers = {key: _numbers(given[key], key)[0] for key in ("batch", "repeats", "limit") if key in given}
    training = experiment.train or given.get("train", "false").lower() == "true"
    limit = float(numbers.get("limit", 600))
    settings = Settings(
        0, numbers.get("batch", experiment.batch), repeats=numbers.get("repeats", 10), seconds=limit / 6
    )
    return How(device, given.get("rule"), (False, True) if training else (False,), settings, limit)


def _numbers(text: str, key: str) -> list[int]:
    found = [arguments.integer(part, key) for part in text.split(",")]
    if any(number is None or number < 1 for number in found):
        raise UsageError(f"{key}={text} must be whole numbers from 1 up.")
    return [number for number in found if number is not None]


def _subject(row: CostRow, overrides: Sequence[str], path: Path) -> Subject:
    """Find the network among restorers and backbones; raises `UsageError` naming the row."""
    restorers, backbones = list_choices("model"), list_choices("model/backbone")
    if row.model not in restorers and row.model not in backbones:
        raise UsageError(f"Unknown model '{row.model}'. {nearest(row.model, [*restorers, *backbones])}")
    is_backbone = row.model not in restorers
    group = ["model=pyramid", f"model/backbone={row.model}"] if is_backbone else [f"model={row.model}"]
    try:
        cfg = compose_run([*group, *row.overrides, *overrides]).cfg
    except UsageError as error:
        raise UsageError(f"{path}, row '{row.label}': {error}") from error
    return Subject(row, build.blueprint(cfg, backbone=is_backbone))


def _meta(subject: Subject) -> Any:
    import torch

    try:
        with torch.device("meta"):
            return build.from_blueprint(subject.blueprint)
    except UsageError as error:
        raise UsageError(f"Row '{subject.row.label}': {error}") from error


def _rows(experiment: CostExperiment, subjects: Sequence[Subject], how: How) -> Iterator[Row]:
    """Count and measure everything, network by network; what does not work becomes a row that says so."""
    networks = [_meta(subject) for subject in subjects]  # a mistake in the last one shows before the first is measured
    wanted = [(s, n, size, mode) for s, n in zip(subjects, networks, strict=True) for mode in how.modes
              for size in s.row.sizes or experiment.sizes]  # fmt: skip
    timed = any(column in MEASURED for column in experiment.columns)
    for number, (subject, network, size, training) in enumerate(wanted, start=1):
        row = _counted(subject, network, size, training, how)
        if timed and not row.error:
            row = _timed(row, subject, how)
        if timed:
            said = row.error or f"{row.latency or 0:.3g} s, {(row.memory or 0) / 1e6:.4g} MB"
            text = f"[{number}/{len(wanted)}] {row.label} at {size}{', training' if training else ''}: {said}"
            print(text, file=sys.stderr, flush=True)
        yield attach(row, None if training else experiment.reference(subject.row, size))


def _counted(subject: Subject, network: Any, size: int, training: bool, how: How) -> Row:
    asked, rule = subject.row, how.rule or counting.rule_of(network)
    row = Row(asked.label, asked.model, size, how.settings.batch, training, how.device, rule=rule, note=asked.note)
    row = replace(row, params=counting.count_params(network))
    if not build.trainable(network):
        return row
    try:
        ours, papers = (counting.count_macs(network, (size, size), name) for name in (counting.OWN, rule))
    except (BenchError, RuntimeError, ValueError, AssertionError) as error:
        return replace(row, error=describe(error))
    return replace(row, macs=ours, macs_paper=papers)


def _timed(row: Row, subject: Subject, how: How) -> Row:
    settings = replace(how.settings, size=row.size, training=row.training)
    if row.training and row.params == 0:
        return replace(row, error="has nothing to train")
    try:
        found = ask(subject.blueprint, how.device, settings, how.limit)
    except Failure as error:
        return replace(row, error=str(error))
    return replace(row, seconds=tuple(found.seconds), memory=found.memory)


def _sorted(experiment: CostExperiment, rows: list[Row]) -> list[Row]:
    """Append published lines of networks that are not ours, in the order of the file."""
    used = {(asked.published, row.size) for asked in experiment.rows for row in rows if row.label == asked.label}
    for (label, size), reference in experiment.published().items():
        if (label, size) not in used:
            rows.append(attach(Row(label, size=size), reference))
    return rows


def _conditions(experiment: CostExperiment, how: How) -> list[str]:
    """Return on what the time and memory of a profile hang."""
    if not any(column in MEASURED for column in experiment.columns):
        return []
    found = describe_environment(how.device)
    if how.device == "cpu":
        where, backend = f"CPU, {found['threads']} threads", found["auto/cpu"]
        memory = "growth of the resident set, without weights"
    else:
        where, backend, memory = found["device"], found["auto/cuda"], "peak of what was allocated, with weights"
    batch = f"batches of {how.settings.batch}"
    return [f"{where}, torch {found['torch']}, float32, {batch}, operators: {backend}; memory: {memory}."]


def _write(
    experiment: CostExperiment, rows: Sequence[Row], lines: Sequence[str], folder: Path, device: str
) -> list[Path]:
    """Write table, data and plot; without matplotlib a line says what is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made ({error.strerror}): set out=DIR.") from error
    paths = [folder / f"profile.{suffix}" for suffix in ("md", "csv", "json", "png")]
    write_text_atomic(paths[0], table.to_markdown(experiment.title, rows, experiment.columns, lines))
    write_text_atomic(paths[1], to_csv(rows))
    fitted = [
        {"label": label, "training": training, **{k: vars(v) for k, v in found.items() if v is not None}}
        for (label, training), found in growths(rows).items()
    ]
    data = {"title": experiment.title, "environment": describe_environment(device), "growth": fitted}
    write_json_atomic(paths[2], {**data, "rows": to_data(rows)})
    if not any(row.seconds for row in rows):
        return paths[:3]
    try:
        picture.draw(rows, experiment.title, paths[3])
    except UsageError as error:
        print(error, file=sys.stderr)
        return paths[:3]
    return paths

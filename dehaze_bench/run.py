"""One run: find or make its directory, skip or resume, train, evaluate, record. `result.json` is written last."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from dehaze_bench import build, config, counting, evidence, fitting, locking, source
from dehaze_bench.compose import Composed, identify_run, measured
from dehaze_bench.config import NUMERICS, Identity
from dehaze_bench.engine import checkpoint, distributed, evaluation, faults, precision
from dehaze_bench.engine.distributed import World, is_first
from dehaze_bench.engine.signals import StopFlag
from dehaze_bench.environment import describe_environment
from dehaze_bench.errors import BenchError, JobError, Requeue, UsageError
from dehaze_bench.nn.direction_search import read_searches
from dehaze_bench.results import record as records
from dehaze_bench.results.fields import Fields
from dehaze_bench.results.files import read_json, write_json_atomic, write_text_atomic
from dehaze_bench.results.store import Store
from dehaze_bench.source import Source
from dehaze_bench.track.sink import EvaluationView, RunInfo, Sink

__all__ = ["Outcome", "evaluate", "execute", "is_first", "name_of", "train"]

DIRECTIONS = "directions.json"


@dataclass(frozen=True)
class Outcome:
    """What a run left: its record, its directory, and whether it had been done before."""

    record: records.RunRecord
    path: Path
    skipped: bool

    def directions(self) -> str | None:
        """Return the override for the network that a search of directions found; None for a run without a search."""
        path = self.path / DIRECTIONS
        return Fields(read_json(path), str(path)).text("override") if path.exists() else None


def name_of(composed: Composed) -> str:
    """Return the directory name of a run."""
    return identify_run(composed).name


def execute(composed: Composed) -> Outcome:
    """Do one row of an experiment: the evaluation of a file of weights where it names one, else a training."""
    if distributed.processes() > 1:
        raise UsageError(
            "torchrun makes one run of many processes, a sweep is many runs: start `train` without -m under torchrun, "
            "or the sweep without torchrun."
        )
    return train(composed) if composed.cfg.weights is None else evaluate(composed, None)


def train(composed: Composed) -> Outcome:
    """Do one run from config to record; a finished one is returned as it is.

    Raises `UsageError` before anything is written, `Requeue` after a stop signal, and whatever made the run fail
    (its traceback is in `failed.json`); `JobError` where another process works on it.
    """
    cfg = composed.cfg
    config.check(cfg)
    half = config.scientific(cfg)
    identity = config.identify(half, composed.choices)
    done = _finished(cfg, identity) if distributed.processes() == 1 else None
    if done is not None:
        return done
    if cfg.weights is not None:
        raise UsageError("train starts from nothing: weights=FILE is for eval and restore. Leave it out.")
    build.check(cfg)
    fitting.check_world(cfg)
    with _joined(cfg, identity) as world:
        parts = fitting.Parts(cfg, world.first)
        with _working_in(cfg, identity, world) as place:
            done = world.once(lambda: _finished(cfg, identity))  # another process may have been quicker
            if done is not None:
                return done
            world.once(lambda: _write_config(place.folder, composed, world))
            saved = world.once(lambda: checkpoint.choose(place.folder, identity.id))
            path, step = saved if saved is not None else (None, 0)
            steps = int(cfg.train.steps) if parts.dataset is not None else None
            reports = _Reports(parts.sinks)
            with reports.open(RunInfo(identity.id, identity.slug, place.folder, steps, step, half)):
                fitted = fitting.fit(cfg, parts, reports, place, path)
                select = str(cfg.train.select) if fitted.training is not None else "none"
                found = Source(fitted.network, cfg, {}, "ours", int(cfg.seed), fitted.step, select, None)

                def complete(record: records.RunRecord) -> records.RunRecord:
                    _write_directions(place.folder, fitted.network)
                    return replace(record, train=fitted.training)

                record = _measure(composed, half, found, parts, reports, place, complete)
    return Outcome(record, place.folder, skipped=False)


def evaluate(composed: Composed, run: str | None) -> Outcome:
    """Measure the weights of a finished run, or of the file `cfg.weights`, as a run of its own."""
    cfg = composed.cfg
    config.check(cfg)
    found = source.load(composed, run)
    half = found.half() | measured(cfg)
    composed = replace(composed, choices={**composed.choices, **found.choices})
    identity = config.identify(half, composed.choices, verb="eval")
    done = _finished(cfg, identity) if distributed.processes() == 1 else None
    if done is not None:
        return done
    with _joined(cfg, identity) as world:
        parts = fitting.Parts(cfg, world.first, with_data=False)
        with _working_in(cfg, identity, world) as place:
            done = world.once(lambda: _finished(cfg, identity))
            if done is not None:
                return done
            world.once(lambda: _write_config(place.folder, composed, world))
            reports = _Reports(parts.sinks)
            with reports.open(RunInfo(identity.id, identity.slug, place.folder, None, 0, half)):
                complete = lambda record: replace(record, verb="eval")  # noqa: E731
                record = _measure(composed, half, found, parts, reports, place, complete)
    return Outcome(record, place.folder, skipped=False)


class _Reports:
    """All sinks of a run as one; the record of a failure reaches them too."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.sinks = sinks

    @contextlib.contextmanager
    def open(self, info: RunInfo) -> Iterator[None]:
        for sink in self.sinks:
            sink.start(info)
        try:
            yield
        except BaseException as error:
            self.finish({"error": str(error), "type": type(error).__name__})
            raise

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for sink in self.sinks:
            sink.log(step, values)

    def evaluation(self, view: EvaluationView) -> None:
        for sink in self.sinks:
            sink.evaluation(view)

    def finish(self, result: Mapping[str, Any]) -> None:
        for sink in self.sinks:
            sink.finish(result)


def _measure(
    composed: Composed,
    half: dict[str, Any],
    found: Source,
    parts: fitting.Parts,
    reports: _Reports,
    place: fitting.Place,
    complete: Callable[[records.RunRecord], records.RunRecord],
) -> records.RunRecord:
    """Evaluate on the whole test set, write rows, pictures and the record, as `complete` returns it."""
    world, folder, protocol, testset = place.world, place.folder, parts.protocol, parts.testset
    restorer = fitting.restorer(found.network.to(world.device), composed.cfg, world.device)
    scores = evaluation.evaluate(restorer, testset, protocol, world=world, stop=place.stop)

    def write() -> records.RunRecord:
        place.guard()
        evidence.write_rows(folder, scores)
        pictures = evidence.write_pictures(folder / "images" / testset.name, scores, restorer, testset, protocol)
        reports.evaluation(EvaluationView(testset.name, found.step or 0, scores.means, scores.rows, pictures))
        record = complete(_record(composed, half, found, parts, place, scores))
        records.write_record(folder, record)  # before a tracker may take its time
        reports.finish(record.to_dict())
        return record

    return world.once(write)


def _record(
    composed: Composed,
    half: dict[str, Any],
    found: Source,
    parts: fitting.Parts,
    place: fitting.Place,
    scores: evaluation.Evaluated,
) -> records.RunRecord:
    protocol, testset, note = parts.protocol, parts.testset, parts.protocol.describe()
    if not scores.rows[0][1].keys() >= protocol.metrics.keys():
        note = f"{note}; test set without truth: nothing is compared with clear pictures"
    higher_is_better = protocol.higher_is_better | {records.TEMPORAL: False}
    metrics = {
        name: records.MetricValue(mean, scores.std(name), higher_is_better[name]) for name, mean in scores.means.items()
    }
    return records.RunRecord(
        id=place.identity.id,
        slug=place.identity.slug,
        dir=place.folder.name,
        verb="train",
        kind=found.kind,
        seed=found.seed,
        numerics=NUMERICS,
        config=half,
        choices=composed.choices,
        cost=_cost(found),
        train=None,
        evaluation=records.Evaluation(
            testset=testset.name,
            protocol=protocol.name,
            protocol_note=note,
            select=found.select,
            step=found.step,
            n=len(scores.rows),
            seconds=scores.seconds,
            decoder=testset.decoder,
            metrics=metrics,
        ),
        env=_environment(place.world),
        finished=_now(),
    )


def _write_directions(folder: Path, network: nn.Module) -> None:
    """Write what a search of directions found, where there is one: by layer, and as an override to train it."""
    found = read_searches(network)
    if found:
        layers = ",".join(f"[{','.join(each.directions)}]" for each in found)
        override = f"model.backbone.directions=[{layers}]"
        write_json_atomic(folder / DIRECTIONS, {"override": override, "layers": [asdict(each) for each in found]})


def _cost(found: Source) -> records.Cost:
    params = counting.count_params(found.network)
    if not build.trainable(found.network):
        return records.Cost(params=params)
    network = build.meta_model(found.cfg)
    macs, rule = counting.count_macs(network), counting.rule_of(network)
    papers = macs if rule == counting.OWN else counting.count_macs(network, rule=rule)
    return records.Cost(params, macs, counting.MACS_SIZE, macs_paper=papers, macs_rule=rule)


def _finished(cfg: DictConfig, identity: Identity) -> Outcome | None:
    found = Store(Path(cfg.paths.runs)).get(identity.id)
    if found is not None and found.state == "broken":
        raise JobError(f"The run directory {found.path} is damaged: {found.reason}. Move it away and start again.")
    if found is None or found.record is None:
        return None
    return Outcome(found.record, found.path, skipped=True)


@contextlib.contextmanager
def _joined(cfg: DictConfig, identity: Identity) -> Iterator[World]:
    """Meet the other processes of the run, if there are any, and set what torch keeps per process."""
    device = build.device(cfg)
    precision.settle(device, cfg.runtime.precision, cfg.runtime.deterministic)
    with distributed.join(device) as world:
        world.agree(identity.id, "config")
        yield world


@contextlib.contextmanager
def _working_in(cfg: DictConfig, identity: Identity, world: World) -> Iterator[fitting.Place]:
    """Make and lock the run directory; record a failure there with its traceback. Signals set a flag from here on."""
    folder = Path(cfg.paths.runs) / identity.name
    held: list[locking.Lock] = []

    def take() -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.append(locking.take(folder))
            for partial in folder.rglob(".*.tmp"):  # of a process that was killed while it wrote
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"The run directory {folder} cannot be written ({error}): set paths.runs=DIR.") from error

    world.once(take)
    try:
        with StopFlag() as stop:
            yield fitting.Place(identity, folder, world, stop, held[0].check if held else lambda: None)
    except (Requeue, KeyboardInterrupt):
        raise
    except Exception as error:
        try:
            told = _failed(error, identity, folder, world)
        except RuntimeError as late:  # torch tells of a lost data worker when its signal comes, even here
            told = _failed(late, identity, folder, world)
        raise told from error
    finally:
        for lock in held:
            lock.release()


def _failed(error: Exception, identity: Identity, folder: Path, world: World) -> BenchError:
    """Record a failure, once for all processes, and return what the user is told of it."""
    told: BenchError
    other = world.other_failure() if world.size > 1 and distributed.is_lost(error) else None
    known = faults.explain(error, folder)
    if isinstance(error, BenchError):
        told = error
    elif world.size > 1 and distributed.is_lost(error):
        told = JobError("Another process of this run is gone: it was killed, or its machine was.")
    elif known is not None:
        told = JobError(f"{known} {checkpoint.describe_last(folder)} Then start it again.")
    else:
        what = f"The run failed with {type(error).__name__}: {error}."
        told = JobError(f"{what} The traceback is in {folder / records.FAILED}.")
    if other is None and not getattr(error, "told", False):
        other = world.claim_failure(str(told))
        if other is None:
            failure = records.Failure.from_exception(error, identity.id, identity.slug, _now())
            with contextlib.suppress(OSError):  # a full disk is a failure that cannot be written down
                records.write_failure(folder, replace(failure, error=str(told) if known else failure.error))
    return told if other is None else JobError(other)


def _write_config(folder: Path, composed: Composed, world: World) -> None:
    (folder / records.FAILED).unlink(missing_ok=True)  # this attempt has not failed yet
    write_text_atomic(folder / "config.yaml", OmegaConf.to_yaml(composed.cfg, resolve=True))
    environment = _environment(world)
    environment |= {"overrides": list(composed.overrides), "pid": os.getpid(), "started": _now()}
    write_json_atomic(folder / "env.json", environment)


def _environment(world: World) -> dict[str, Any]:
    """Return what describes the machine, and the number of processes where there are several."""
    return describe_environment(world.device) | ({"processes": world.size} if world.size > 1 else {})


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""One run: find or make its directory, skip or resume, train, evaluate, record. `result.json` is written last."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from torch import nn

from dehaze_bench import build, config, counting, source
from dehaze_bench.compose import Composed, identify_run, measured
from dehaze_bench.config import NUMERICS, Identity
from dehaze_bench.data import TestPair, TrainingSet, batches
from dehaze_bench.data.holdout import hold_out
from dehaze_bench.engine import evaluation, loop, state
from dehaze_bench.environment import describe_environment
from dehaze_bench.errors import BenchError, JobError, Requeue, UsageError
from dehaze_bench.infer import restore
from dehaze_bench.infer.picture import to_8bit, write_png
from dehaze_bench.nn.direction_search import read_searches
from dehaze_bench.results import record as records
from dehaze_bench.results.fields import Fields
from dehaze_bench.results.files import read_json, write_json_atomic, write_text_atomic
from dehaze_bench.results.store import Store
from dehaze_bench.source import BEST, Source
from dehaze_bench.track.pictures import choose
from dehaze_bench.track.sink import EvaluationView, Picture, RunInfo, Sink, make_sinks
from dehaze_bench.weights import load_own, save_own

LAST = "last.pt"
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
    done = _finished(cfg, identity)
    if done is not None:
        return done
    if cfg.weights is not None:
        raise UsageError("train starts from nothing: weights=FILE is for eval and restore. Leave it out.")
    build.check(cfg)
    things = _Things(cfg)
    with _working_in(cfg, identity) as folder:
        done = _finished(cfg, identity)  # another process may have been quicker
        if done is not None:
            return done
        _write_config(folder, composed)
        steps = int(cfg.train.steps) if things.dataset is not None else None
        sinks = _Reports(things.sinks)
        info = RunInfo(identity.id, identity.slug, folder, steps, _saved_step(folder, identity), half)
        with sinks.open(info):
            network, training, step = _fit(cfg, identity, folder, things, sinks)
            select = str(cfg.train.select) if training is not None else "none"
            found = Source(network, cfg, {}, "ours", int(cfg.seed), step, select, None)
            record = _measure(composed, identity, folder, half, found, things, sinks)
            record = replace(record, train=training)
            _write_directions(folder, network)
            _finish(folder, record, sinks)
    return Outcome(record, folder, skipped=False)


def evaluate(composed: Composed, run: str | None) -> Outcome:
    """Measure the weights of a finished run, or of the file `cfg.weights`, as a run of its own."""
    cfg = composed.cfg
    config.check(cfg)
    found = source.load(composed, run)
    things = _Things(cfg, with_data=False)
    half = found.half() | measured(cfg)
    composed = replace(composed, choices={**composed.choices, **found.choices})
    identity = config.identify(half, composed.choices, verb="eval")
    done = _finished(cfg, identity)
    if done is not None:
        return done
    with _working_in(cfg, identity) as folder:
        _write_config(folder, composed)
        sinks = _Reports(things.sinks)
        with sinks.open(RunInfo(identity.id, identity.slug, folder, None, 0, half)):
            record = _measure(composed, identity, folder, half, found, things, sinks)
            record = replace(record, verb="eval")
            _finish(folder, record, sinks)
    return Outcome(record, folder, skipped=False)


class _Things:
    """What a run needs besides the network; built before the first file is written, so that faults come early."""

    def __init__(self, cfg: DictConfig, with_data: bool = True) -> None:
        self.device = build.device(cfg)
        self.protocol = build.protocol(cfg)
        self.testset = build.testset(cfg)
        self.dataset: TrainingSet | None = None
        self.validation: list[TestPair] = []
        self.sinks = make_sinks(**_plain(cfg.track))
        network = build.meta_model(cfg)
        if with_data and build.trainable(network):
            for make in (build.schedule, build.loss):
                make(cfg)
            build.optimizer(cfg, network)
            self.dataset, self.validation = hold_out(
                build.dataset(cfg), cfg.train.val_images, cfg.train.crop, int(cfg.seed)
            )
        self.metric, self.higher = next(iter(self.protocol.higher_is_better.items()))


class _Reports:
    """All sinks of a run as one; the record of a failure reaches them too."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.sinks = sinks
        self.last: dict[str, float] = {}

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
        self.last.update(values)
        for sink in self.sinks:
            sink.log(step, values)

    def evaluation(self, view: EvaluationView) -> None:
        for sink in self.sinks:
            sink.evaluation(view)

    def finish(self, result: Mapping[str, Any]) -> None:
        for sink in self.sinks:
            sink.finish(result)


def _fit(
    cfg: DictConfig, identity: Identity, folder: Path, things: _Things, sinks: _Reports
) -> tuple[nn.Module, records.Training | None, int | None]:
    """Return the selected network, how it was trained, and the step it is of."""
    torch.manual_seed(int(cfg.seed))
    if cfg.runtime.threads is not None:
        torch.set_num_threads(int(cfg.runtime.threads))
    torch.use_deterministic_algorithms(bool(cfg.runtime.deterministic))
    network = build.model(cfg).to(things.device)
    build.load_encoder(cfg, network)
    if things.dataset is None:
        return network, None, None

    select = str(cfg.train.select)
    plan = loop.Plan(
        steps=cfg.train.steps,
        accumulate=cfg.train.accumulate,
        clip=cfg.train.clip,
        precision=cfg.runtime.precision,
        log_every=cfg.runtime.log_every,
        eval_every=cfg.train.eval_every,
        save_every=cfg.runtime.save_every,
        schedule=build.schedule(cfg),
        loss=build.loss(cfg),
        device=things.device,
        seed=int(cfg.seed),
    )
    current = state.TrainState(
        model=network,
        optimizer=build.optimizer(cfg, network),
        scaler=torch.amp.GradScaler(things.device.type, enabled=cfg.runtime.precision == "fp16"),
        ema=state.averaged(network, cfg.train.ema),
    )
    if (folder / LAST).exists():
        current.load(folder / LAST, identity.id)

    def evaluate_at(model: nn.Module, step: int) -> float | None:
        on_val = bool(things.validation)
        pairs = things.validation if on_val else things.testset
        found = evaluation.evaluate(_restorer(model, cfg, things.device), pairs, things.protocol)
        means = {name: found.mean(name) for name in things.protocol.metrics}
        sinks.evaluation(EvaluationView("val" if on_val else things.testset.name, step, means))
        return means[things.metric] * (1 if things.higher else -1) if select != "last" else None

    def save_best() -> None:
        metadata = {
            "config": json.dumps(config.scientific(cfg)),
            "step": str(current.step),
            "id": identity.id,
        }
        save_own(current.eval_model.state_dict(), folder / BEST, metadata)

    steps = batches(
        things.dataset,
        seed=int(cfg.seed),
        start=current.step,
        stop=plan.steps,
        batch=cfg.train.batch,
        crop=cfg.train.crop,
        augment=list(cfg.train.augment),
        num_workers=cfg.runtime.workers,
    )
    save = lambda: current.save(folder / LAST, identity.id)  # noqa: E731
    loop.train(current, steps, plan, log=sinks.log, evaluate=evaluate_at, save=save, save_best=save_best)
    if select == "last":
        save_best()
    load_own(network, folder / BEST)
    step = plan.steps if select == "last" else int(current.best["step"])
    images = plan.steps * int(cfg.train.batch)
    return network, records.Training(plan.steps, current.seconds, images, sinks.last.get("loss")), step


def _measure(
    composed: Composed,
    identity: Identity,
    folder: Path,
    half: dict[str, Any],
    found: Source,
    things: _Things,
    sinks: _Reports,
) -> records.RunRecord:
    """Evaluate on the whole test set, write rows and pictures, and return the record."""
    protocol, testset = things.protocol, things.testset
    restorer = _restorer(found.network.to(things.device), composed.cfg, things.device)
    scores = evaluation.evaluate(restorer, testset, protocol)
    rows = [records.ImageRow(name, values) for name, values in scores.rows]
    records.write_per_image(folder / records.PER_IMAGE, list(protocol.metrics), rows)
    pictures = []
    for index in choose([row[things.metric] for _, row in scores.rows], things.higher):
        pair = testset[index]
        hazy, clear = protocol.prepare(pair.hazy, pair.clear)
        shown = Picture(pair.name, to_8bit(hazy), to_8bit(restorer(hazy)), to_8bit(clear))
        write_png(shown.restored, folder / "images" / testset.name / f"{shown.name}.png")
        pictures.append(shown)
    means = {name: scores.mean(name) for name in protocol.metrics}
    sinks.evaluation(EvaluationView(testset.name, found.step or 0, means, scores.rows, pictures))
    metrics = {
        name: records.MetricValue(scores.mean(name), scores.std(name), higher)
        for name, higher in protocol.higher_is_better.items()
    }
    return records.RunRecord(
        id=identity.id,
        slug=identity.slug,
        dir=folder.name,
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
            protocol_note=protocol.describe(),
            select=found.select,
            step=found.step,
            n=len(rows),
            seconds=scores.seconds,
            decoder=testset.decoder,
            metrics=metrics,
        ),
        env=describe_environment(things.device),
        finished=_now(),
    )


def _write_directions(folder: Path, network: nn.Module) -> None:
    """Write what a search of directions found, where there is one: by layer, and as an override to train it."""
    found = read_searches(network)
    if found:
        layers = ",".join(f"[{','.join(each.directions)}]" for each in found)
        override = f"model.backbone.directions=[{layers}]"
        write_json_atomic(folder / DIRECTIONS, {"override": override, "layers": [asdict(each) for each in found]})


def _finish(folder: Path, record: records.RunRecord, sinks: _Reports) -> None:
    sinks.finish(record.to_dict())
    records.write_record(folder, record)


def _restorer(network: nn.Module, cfg: DictConfig, device: torch.device) -> evaluation.Restore:
    def run(hazy_CHW: torch.Tensor) -> torch.Tensor:
        with loop.autocast(device, cfg.runtime.precision):
            return restore(network, hazy_CHW, device=device)

    return run


def _cost(found: Source) -> records.Cost:
    params = counting.count_params(found.network)
    if not build.trainable(found.network):
        return records.Cost(params=params)
    macs = counting.count_macs(build.meta_model(found.cfg))
    return records.Cost(params=params, macs=macs, macs_size=counting.MACS_SIZE)


def _finished(cfg: DictConfig, identity: Identity) -> Outcome | None:
    found = Store(Path(cfg.paths.runs)).get(identity.id)
    if found is not None and found.state == "broken":
        raise JobError(f"The run directory {found.path} is damaged: {found.reason}. Move it away and start again.")
    if found is None or found.record is None:
        return None
    return Outcome(found.record, found.path, skipped=True)


def _saved_step(folder: Path, identity: Identity) -> int:
    path = folder / LAST
    return int(state.read_checkpoint(path, identity.id)["step"]) if path.exists() else 0


@contextlib.contextmanager
def _working_in(cfg: DictConfig, identity: Identity) -> Iterator[Path]:
    """Make and lock the run directory; record a failure there with its traceback."""
    folder = Path(cfg.paths.runs) / identity.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock")
        lock.acquire(timeout=1)
    except Timeout as error:
        raise JobError(
            f"Another process works on {folder}. Wait for it or stop it; the lock of a dead process frees itself."
        ) from error
    except OSError as error:
        raise UsageError(f"The run directory {folder} cannot be written ({error}): set paths.runs=DIR.") from error
    try:
        yield folder
    except (Requeue, KeyboardInterrupt):
        raise
    except Exception as error:
        failure = records.Failure.from_exception(error, identity.id, identity.slug, _now())
        records.write_failure(folder, failure)
        if isinstance(error, BenchError):
            raise
        raise JobError(
            f"The run failed with {type(error).__name__}: {error}. The traceback is in {folder / records.FAILED}."
        ) from error
    finally:
        lock.release()


def _write_config(folder: Path, composed: Composed) -> None:
    (folder / records.FAILED).unlink(missing_ok=True)  # this attempt has not failed yet
    write_text_atomic(folder / "config.yaml", OmegaConf.to_yaml(composed.cfg, resolve=True))
    environment = describe_environment(build.device(composed.cfg))
    environment |= {"overrides": list(composed.overrides), "pid": os.getpid(), "started": _now()}
    write_json_atomic(folder / "env.json", environment)


def _plain(node: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(node, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items() if key != "_target_"}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""One run: find or make its directory, skip or resume, train, evaluate, record. `result.json` is written last."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from dehaze_bench import build, config
from dehaze_bench.compose import Composed, compose_run
from dehaze_bench.config import NUMERICS, Identity
from dehaze_bench.data import batches, validation_pairs
from dehaze_bench.engine import evaluation, loop, state
from dehaze_bench.environment import describe_environment
from dehaze_bench.errors import JobError, Requeue, UsageError
from dehaze_bench.infer import restore
from dehaze_bench.infer.picture import to_8bit, write_png
from dehaze_bench.results import record as records
from dehaze_bench.results.files import write_json_atomic, write_text_atomic
from dehaze_bench.results.store import Store
from dehaze_bench.track import EvaluationView, ImageView, Sinks, make_sinks
from dehaze_bench.weights import load_own, load_published, read_metadata, save_own
from dehaze_bench.weights.files import hash_file

BEST, LAST = "best.safetensors", "last.pt"
VIEW_FIXED, VIEW_EXTREME = 6, 3


@dataclass(frozen=True)
class Outcome:
    """What a run left: its record, its directory, and whether it had been done before."""

    record: records.RunRecord
    path: Path
    skipped: bool


@dataclass(frozen=True)
class Source:
    """Weights to evaluate: the network, the step they are of, their kind and what identifies them."""

    network: nn.Module
    step: int | None
    kind: str
    seed: int
    model: dict[str, Any]
    scan: dict[str, Any]
    weights: str | None
    choices: dict[str, str]


def name_of(composed: Composed) -> str:
    """Return the directory name of a run."""
    return config.identify(config.scientific(composed.cfg), composed.choices).name


def train(composed: Composed, log: bool = True) -> Outcome:
    """Do one run from config to record; a finished one is returned as it is.

    Raises `UsageError` before anything is written, `Requeue` after a stop signal, `JobError` for a run that failed
    (its traceback is in `failed.json`) or that another process works on.
    """
    cfg = composed.cfg
    config.check(cfg)
    half = config.scientific(cfg)
    identity = config.identify(half, composed.choices)
    folder = Path(cfg.paths.runs) / identity.name
    found = _finished(cfg, identity, folder)
    if found is not None:
        return found
    build.check(cfg)
    objects = _Objects(cfg)
    with _working_in(folder, identity):
        found = _finished(cfg, identity, folder)
        if found is not None:
            return found
        _write_config(folder, composed)
        network, step, trained = _fit(composed, identity, folder, objects, log)
        source = Source(network, step, "ours", int(cfg.seed), {}, {}, None, {})
        done = _measure(composed, identity, folder, half, source, objects, trained, "train", log)
    return Outcome(done, folder, skipped=False)


def evaluate(composed: Composed, run: str | None, log: bool = True) -> Outcome:
    """Measure the weights of a finished run, or of the file `cfg.weights`, as a run of its own."""
    cfg = composed.cfg
    config.check(cfg)
    objects = _Objects(cfg, with_data=False)
    source = from_run(composed, run) if run is not None else from_file(composed)
    half = {
        "model": source.model,
        "scan": source.scan,
        "testset": config.scientific(cfg)["testset"],
        "protocol": config.scientific(cfg)["protocol"],
        "weights": source.weights,
        "seed": source.seed,
        "precision": str(cfg.runtime.precision),
    }
    choices = {**composed.choices, **source.choices}
    composed = Composed(cfg, choices, composed.overrides)
    identity = config.identify(half, choices, verb="eval")
    folder = Path(cfg.paths.runs) / identity.name
    found = _finished(cfg, identity, folder)
    if found is not None:
        return found
    with _working_in(folder, identity):
        _write_config(folder, composed)
        done = _measure(composed, identity, folder, half, source, objects, None, "eval", log)
    return Outcome(done, folder, skipped=False)


def from_run(composed: Composed, run: str) -> Source:
    """Return the weights of a finished run; raises `UsageError` for an unknown or unfinished one."""
    cfg = composed.cfg
    stored = Store(Path(cfg.paths.runs)).require(run)
    assert stored.record is not None
    taken = ("model", "scan", "train", "optimizer", "schedule", "loss", "recipe", "dataset", "seed")
    for text in composed.overrides:
        group = text.lstrip("+~").split("=")[0].split(".")[0].split("/")[0]
        if group in taken:
            raise UsageError(f"'{text}' cannot be changed: run={run} fixes it. Change testset or protocol.")
    saved = OmegaConf.load(stored.path / "config.yaml")
    assert isinstance(saved, DictConfig)
    old = stored.record
    network = build.model(saved)
    if build.trainable(network):
        load_own(network, stored.path / BEST)
    step = old.evaluation.step
    choices = {k: v for k, v in old.choices.items() if k.split("/")[0] in taken}
    parts = old.config["model"], old.config["scan"]
    return Source(network, step, old.kind, old.seed, *parts, weights=old.id, choices=choices)


def from_file(composed: Composed) -> Source:
    """Return `cfg.model` with the weights of `cfg.weights`, published or our own."""
    cfg = composed.cfg
    half = config.scientific(cfg)
    network = build.model(cfg)
    parts = half["model"], half["scan"]
    if cfg.weights is None:
        if build.trainable(network):
            raise UsageError("eval needs weights: give run=ID, or weights=FILE with model=NAME.")
        return Source(network, None, "ours", int(cfg.seed), *parts, weights=None, choices={})
    path = Path(cfg.weights)
    if path.suffix == ".safetensors" and "config" in read_metadata(path):
        metadata = load_own(network, path)
        step = int(metadata.get("step", 0))
        return Source(network, step, "ours", int(cfg.seed), *parts, weights=hash_file(path), choices={})
    info = load_published(composed.choices["model"], network, path)
    return Source(network, None, "rerun", int(cfg.seed), *parts, weights=info.sha256, choices={})


class _Objects:
    """What a run needs besides the network; built before the first file is written, so that faults come early."""

    def __init__(self, cfg: DictConfig, with_data: bool = True) -> None:
        self.device = build.device(cfg)
        self.protocol = build.protocol(cfg)
        self.testset = build.testset(cfg)
        self.dataset = None
        if with_data and build.trainable(build.meta_model(cfg)):
            self.dataset = build.dataset(cfg)
            if len(self.dataset) <= cfg.train.val_images:
                raise UsageError(
                    f"train.val_images={cfg.train.val_images} leaves nothing to train on: the set has "
                    f"{len(self.dataset)} images."
                )


def _fit(
    composed: Composed, identity: Identity, folder: Path, objects: _Objects, log: bool
) -> tuple[nn.Module, int | None, records.Training | None]:
    cfg = composed.cfg
    torch.manual_seed(int(cfg.seed))
    if cfg.runtime.threads is not None:
        torch.set_num_threads(int(cfg.runtime.threads))
    torch.use_deterministic_algorithms(bool(cfg.runtime.deterministic))
    network = build.model(cfg).to(objects.device)
    if objects.dataset is None:
        return network, None, None

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
        device=objects.device,
    )
    current = state.TrainState(
        model=network,
        optimizer=build.optimizer(cfg, network),
        scaler=torch.amp.GradScaler(objects.device.type, enabled=cfg.runtime.precision == "fp16"),
        ema=state.averaged(network, cfg.train.ema),
    )
    if (folder / LAST).exists():
        current.load(folder / LAST, identity.id)
    select = str(cfg.train.select)
    validation = validation_pairs(objects.dataset, cfg.train.val_images, cfg.train.crop, seed=int(cfg.seed))
    measured_on = validation if select == "best@val" else objects.testset
    metric, sign = _selection_metric(objects.protocol)
    loss_seen = {"loss": 0.0}

    with _sinks(composed, identity, folder, log, resumed_at=current.step, total=cfg.train.steps) as sinks:

        def log_values(step: int, values: dict[str, float]) -> None:
            loss_seen["loss"] = values["loss"]
            sinks.log(step, values)

        def evaluate_at(model: nn.Module, step: int) -> float | None:
            found = evaluation.evaluate(_restorer(model, cfg, objects.device), measured_on, objects.protocol)
            values = {f"val/{name}": found.mean(name) for name in objects.protocol.metrics}
            sinks.log(step, values)
            return sign * values[f"val/{metric}"] if select != "last" else None

        def save_best() -> None:
            metadata = {"config": json.dumps(config.scientific(cfg)), "step": str(current.step), "id": identity.id}
            save_own(current.eval_model.state_dict(), folder / BEST, metadata)

        remaining = batches(
            objects.dataset,
            seed=int(cfg.seed),
            start=current.step,
            stop=plan.steps,
            batch=cfg.train.batch,
            crop=cfg.train.crop,
            augment=tuple(cfg.train.augment),
            num_workers=cfg.runtime.workers,
            num_held_out=cfg.train.val_images,
        )
        loop.train(
            current,
            remaining,
            plan,
            log=log_values,
            evaluate=evaluate_at,
            save=lambda: current.save(folder / LAST, identity.id),
            save_best=save_best,
        )
        if select == "last":
            save_best()
    load_own(network, folder / BEST)
    step = plan.steps if select == "last" else int(current.best["step"])
    images = plan.steps * cfg.train.batch
    return network, step, records.Training(plan.steps, current.seconds, images, loss_seen["loss"])


def _measure(
    composed: Composed,
    identity: Identity,
    folder: Path,
    half: dict[str, Any],
    source: Source,
    objects: _Objects,
    trained: records.Training | None,
    verb: str,
    log: bool,
) -> records.RunRecord:
    cfg, protocol, testset = composed.cfg, objects.protocol, objects.testset
    network = source.network.to(objects.device)
    restorer = _restorer(network, cfg, objects.device)
    with _sinks(composed, identity, folder, log, resumed_at=None, total=len(testset)) as sinks:
        found = evaluation.evaluate(restorer, testset, protocol, on_image=sinks.progress)
        rows = [records.ImageRow(name, values) for name, values in found.rows]
        records.write_per_image(folder / records.PER_IMAGE, list(protocol.metrics), rows)
        view = _view(found, restorer, testset, protocol)
        for image in view.images:
            write_png(image.restored, folder / "images" / testset.name / f"{image.name}.png")
        sinks.evaluation(view)
        done = records.RunRecord(
            id=identity.id,
            slug=identity.slug,
            dir=folder.name,
            verb=verb,
            kind=source.kind,
            seed=source.seed,
            numerics=NUMERICS,
            config=half,
            choices=composed.choices,
            cost=_cost(cfg, source),
            train=trained,
            evaluation=records.Evaluation(
                testset=testset.name,
                protocol=protocol.name,
                protocol_note=protocol.describe(),
                select=str(cfg.train.select) if trained is not None else "none",
                step=source.step,
                n=len(found.rows),
                seconds=found.seconds,
                decoder=testset.decoder,
                metrics={
                    name: records.MetricValue(found.mean(name), found.std(name), higher)
                    for name, higher in protocol.higher_is_better.items()
                },
            ),
            env=describe_environment(objects.device),
            finished=_now(),
        )
        sinks.finish(done.to_dict())
        (folder / records.FAILED).unlink(missing_ok=True)
        records.write_record(folder, done)
    return done


def _selection_metric(protocol: Any) -> tuple[str, float]:
    """Return the first metric of the protocol, and the sign that makes larger better."""
    name, higher = next(iter(protocol.higher_is_better.items()))
    return name, 1.0 if higher else -1.0


def _restorer(network: nn.Module, cfg: DictConfig, device: torch.device) -> evaluation.Restore:
    def run(hazy_CHW: Tensor) -> Tensor:
        with loop.autocast(device, cfg.runtime.precision):
            return restore(network, hazy_CHW, device=device)

    return run


def _view(found: evaluation.Evaluated, restorer: evaluation.Restore, testset: Any, protocol: Any) -> EvaluationView:
    """Return the pictures worth looking at: the first few of the test set, the worst and the best by PSNR."""
    metric, sign = _selection_metric(protocol)
    worst, best = found.extremes(metric, min(VIEW_EXTREME, len(testset)), higher=sign > 0)
    chosen = {index: "fixed" for index in range(min(VIEW_FIXED, len(testset)))}
    chosen |= {index: "worst" for index in worst if index not in chosen}
    chosen |= {index: "best" for index in best if index not in chosen}
    images = []
    for index, why in chosen.items():
        pair = testset[index]
        hazy, clear = protocol.prepare(pair.hazy, pair.clear)
        pictures = (to_8bit(image) for image in (hazy, restorer(hazy), clear))
        images.append(ImageView(pair.name, why, *pictures, metrics=found.rows[index][1]))
    return EvaluationView(testset.name, list(protocol.metrics), found.rows, images)


def _cost(cfg: DictConfig, source: Source) -> records.Cost:
    params = build.count_params(source.network)
    if not build.trainable(source.network):
        return records.Cost(params=params)
    if source.model:  # weights of a run: its own model config, not the composed default
        cfg = OmegaConf.create({"model": source.model, "scan": source.scan})
    macs = build.count_macs(build.meta_model(cfg))
    return records.Cost(params=params, macs=macs, macs_size=build.MACS_SIZE)


def _finished(cfg: DictConfig, identity: Identity, folder: Path) -> Outcome | None:
    found = Store(Path(cfg.paths.runs)).get(identity.id)
    if found is None:
        return None
    if found.state == "broken":
        raise JobError(f"The run directory {found.path} is damaged: {found.reason}. Move it away and start again.")
    return Outcome(found.record, found.path, skipped=True) if found.record is not None else None


@contextlib.contextmanager
def _working_in(folder: Path, identity: Identity) -> Iterator[None]:
    """Hold the lock of a run directory; record a failure there with its traceback."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock")
        lock.acquire(timeout=1)
    except Timeout as error:
        raise JobError(
            f"Another process works on {folder}. Wait for it, or stop it; a lock of a dead process frees itself."
        ) from error
    except OSError as error:
        raise UsageError(f"The run directory {folder} cannot be written ({error}): set paths.runs=DIR.") from error
    try:
        yield
    except (Requeue, KeyboardInterrupt):
        raise
    except Exception as error:
        failure = records.Failure.from_exception(error, identity.id, identity.slug, _now())
        records.write_failure(folder, failure)
        raise
    finally:
        lock.release()


@contextlib.contextmanager
def _sinks(
    composed: Composed, identity: Identity, folder: Path, log: bool, resumed_at: int | None, total: int
) -> Iterator[Sinks]:
    sinks = make_sinks(
        **OmegaConf.to_container(composed.cfg.track, resolve=True),  # type: ignore[arg-type]
        run_dir=folder,
        run_id=identity.id,
        name=identity.name,
        config=config.scientific(composed.cfg),
        resumed_at=resumed_at,
        total=total,
        quiet=not log,
    )
    try:
        yield sinks
    finally:
        sinks.close()


def _write_config(folder: Path, composed: Composed) -> None:
    write_text_atomic(folder / "config.yaml", OmegaConf.to_yaml(composed.cfg, resolve=True))
    environment = describe_environment(build.device(composed.cfg))
    environment |= {"overrides": list(composed.overrides), "pid": os.getpid(), "started": _now()}
    write_json_atomic(folder / "env.json", environment)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def compose_eval(overrides: list[str], run: str | None) -> Composed:
    """Compose an evaluation: the test set and the protocol of the old run stand unless overridden."""
    composed = compose_run(overrides)
    if run is None:
        return composed
    stored = Store(Path(composed.cfg.paths.runs)).require(run)
    assert stored.record is not None
    given = {text.split("=")[0] for text in overrides}
    kept = [f"{g}={stored.record.choices[g]}" for g in ("testset", "protocol") if g not in given]
    return compose_run([*kept, *overrides])

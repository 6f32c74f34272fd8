"""The training half of a run: config to parts, parts to a trained network, in one process or in several."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from dehaze_bench import build, config
from dehaze_bench.config import Identity
from dehaze_bench.data import TestPair, TrainingSet, batches
from dehaze_bench.data.holdout import hold_out
from dehaze_bench.engine import checkpoint, distributed, evaluation, loop, nonfinite, precision, state
from dehaze_bench.engine.distributed import World
from dehaze_bench.engine.recompute import recompute
from dehaze_bench.engine.signals import StopFlag
from dehaze_bench.errors import BenchError, JobError, Requeue, UsageError
from dehaze_bench.infer import restore
from dehaze_bench.infer.clips import restore_clip
from dehaze_bench.results import record as records
from dehaze_bench.source import BEST
from dehaze_bench.track.sink import EvaluationView, make_sinks
from dehaze_bench.weights import load_own, save_own

_LOG = logging.getLogger(__name__)


class Parts:
    """What a run needs besides the network; built before the first file is written, so that faults come early."""

    def __init__(self, cfg: DictConfig, first: bool = True, with_data: bool = True) -> None:
        self.protocol = build.protocol(cfg)
        self.testset = build.testset(cfg)
        self.dataset: TrainingSet | None = None
        self.validation: list[TestPair] = []
        self.sinks = make_sinks(**_plain(cfg.track)) if first else []
        network = build.meta_model(cfg)
        if with_data and build.trainable(network):
            for make in (build.schedule, build.loss):
                make(cfg)
            build.optimizer(cfg, network)
            self.dataset, self.validation = hold_out(
                build.dataset(cfg), cfg.train.val_images, cfg.train.crop, int(cfg.seed)
            )
        self.metric, self.higher = next(iter(self.protocol.higher_is_better.items()))
        if cfg.train.select == "best@test" and not getattr(self.testset, "has_truth", True):
            name = self.testset.name
            raise UsageError(f"train.select=best@test: {name} has no truth to select by. Use last or best@val.")


class Reports(Protocol):
    """What is told how the training goes."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def evaluation(self, view: EvaluationView) -> None: ...


@dataclass(frozen=True)
class Place:
    """Where and as whom a run trains: its directory, the processes, and the flag that a signal sets.

    `guard` is called before a file is written and raises where the directory has a new owner.
    """

    identity: Identity
    folder: Path
    world: World
    stop: StopFlag
    guard: Callable[[], None]


@dataclass(frozen=True)
class Fitted:
    """The selected network, how it was trained, and the step it is of; None for a network without weights."""

    network: nn.Module
    training: records.Training | None = None
    step: int | None = None


def check_world(cfg: DictConfig) -> None:
    """Raise `UsageError` where the batch cannot be shared by the processes that torchrun started."""
    size = distributed.processes()
    if size > cfg.train.batch:
        raise UsageError(
            f"torchrun started {size} processes for train.batch={cfg.train.batch}, which counts the images of all of "
            f"them: start at most {cfg.train.batch}, or raise train.batch."
        )


def fit(cfg: DictConfig, parts: Parts, reports: Reports, place: Place, resumed: Path | None) -> Fitted:
    """Train from the checkpoint `resumed`, or from nothing, to the end, and return what is to be measured."""
    world, folder, runtime, train = place.world, place.folder, cfg.runtime, cfg.train
    torch.manual_seed(int(cfg.seed))
    if runtime.threads is not None:
        torch.set_num_threads(int(runtime.threads))
    network = build.model(cfg).to(world.device)
    build.load_encoder(cfg, network)
    if parts.dataset is None:
        return Fitted(network)

    network = _prepare(network, cfg, world)
    current = state.TrainState(
        model=network,
        optimizer=build.optimizer(cfg, network),
        scaler=precision.scaler(world.device, runtime.precision),
        ema=state.averaged(network, train.ema),
    )
    if resumed is not None:
        current.restore(checkpoint.read(resumed, place.identity.id))
    if runtime.checkpointing:
        recompute(network)
    current.run = distributed.spread(cast(nn.Module, torch.compile(network)) if runtime.compile else network, world)
    plan = loop.Plan(
        steps=train.steps,
        batch=train.batch,
        accumulate=train.accumulate,
        clip=train.clip,
        precision=runtime.precision,
        log_every=runtime.log_every,
        eval_every=train.eval_every,
        save_every=runtime.save_every,
        schedule=build.schedule(cfg),
        loss=build.loss(cfg),
        seed=int(cfg.seed),
        channels_last=runtime.channels_last,
        keep_every=runtime.keep_every,
        nonfinite=nonfinite.Policy(train.nonfinite == "skip", train.max_skipped, folder),
    )

    def evaluate(model: nn.Module, step: int) -> float | None:
        pairs, name = (parts.validation, "val") if parts.validation else (parts.testset, parts.testset.name)
        found = evaluation.evaluate(
            restorer(model, cfg, world.device), pairs, parts.protocol, world=world, stop=place.stop
        )
        reports.evaluation(EvaluationView(name, step, found.means))
        return found.means[parts.metric] * (1 if parts.higher else -1) if train.select != "last" else None

    def save() -> None:
        if world.first:
            place.guard()
            kept = checkpoint.Keep(runtime.keep_every, runtime.keep)
            checkpoint.save(folder, place.identity.id, current.content(), kept)

    def save_best() -> None:
        if world.first:
            place.guard()
            half = json.dumps(config.scientific(cfg))
            metadata = {"config": half, "step": str(current.step), "id": place.identity.id}
            save_own(current.eval_model.state_dict(), folder / BEST, metadata)

    steps = batches(
        parts.dataset,
        seed=int(cfg.seed),
        start=current.step,
        stop=plan.steps,
        batch=train.batch,
        crop=train.crop,
        augment=list(train.augment),
        edge_decay=train.edge_decay,
        mixup=train.mixup,
        num_workers=runtime.workers,
        rank=world.rank,
        world=world.size,
        device=world.device,
    )
    try:
        loop.train(
            current, steps, plan, world, place.stop, log=reports.log, evaluate=evaluate, save=save, save_best=save_best
        )
    except Requeue:
        raise
    except BenchError as error:  # the request was right when the run started: what failed now is the job
        raise JobError(f"{error} {checkpoint.describe_last(folder)}") from error
    world.once(lambda: save_best() if train.select == "last" else None)
    load_own(network, folder / BEST)
    step = plan.steps if train.select == "last" else int(current.best["step"])
    training = records.Training(plan.steps, current.seconds, plan.steps * plan.batch, current.loss, current.skipped)
    return Fitted(network, training, step)


def restorer(network: nn.Module, cfg: DictConfig, device: torch.device) -> evaluation.Restore:
    """Return the function from a hazy picture or clip to the restored one, in the number format of the run."""

    def run(hazy: torch.Tensor) -> torch.Tensor:
        with precision.autocast(device, cfg.runtime.precision):
            return (restore if hazy.ndim == 3 else restore_clip)(network, hazy, device=device)

    return run


def _prepare(network: nn.Module, cfg: DictConfig, world: World) -> nn.Module:
    """Return the network as this machine is to hold it; weights and their names stay as they are."""
    if world.size > 1 and distributed.has_batch_norm(network):
        if world.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        elif world.first:
            _LOG.warning(
                "This network normalises by statistics of the batch, which on CPUs each of the %d processes takes over "
                "its own share (%d of %d images): weights will differ from those of one process.",
                world.size,
                cfg.train.batch // world.size,
                cfg.train.batch,
            )
    if cfg.runtime.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _plain(node: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(node, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items() if key != "_target_"}

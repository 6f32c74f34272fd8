"""The training loop: in iterations, with four named actions per step. To change the loop, edit the loop.

With several processes each runs this same loop on its share of the global batch. They meet twice in a step: where
gradients are averaged, and where all agree whether the step was sound and whether to stop.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from dehaze_bench.engine import nonfinite
from dehaze_bench.engine.clips import as_frames, takes_clips
from dehaze_bench.engine.distributed import World, average, running_statistics, silent
from dehaze_bench.engine.losses import Loss, over_scales
from dehaze_bench.engine.precision import autocast
from dehaze_bench.engine.signals import StopFlag
from dehaze_bench.engine.state import TrainState
from dehaze_bench.engine.window import Window
from dehaze_bench.errors import Requeue


class Batch(Protocol):
    """One process's share of a batch: step, file names, images (B, 3, H, W) or clips (B, T, 3, H, W), and the wait."""

    @property
    def step(self) -> int: ...

    @property
    def names(self) -> list[str]: ...

    @property
    def hazy_BCHW(self) -> Tensor: ...

    @property
    def clear_BCHW(self) -> Tensor: ...

    @property
    def wait(self) -> float: ...


@dataclass(frozen=True)
class Plan:
    """How to train; lengths in steps. `batch` counts the images of all processes; `accumulate` slices what each has."""

    steps: int
    batch: int
    accumulate: int
    clip: float | None
    precision: str
    log_every: int
    eval_every: int | None
    save_every: int
    schedule: Callable[[int, int], float]
    loss: Loss
    seed: int = 0
    channels_last: bool = False
    keep_every: int | None = None
    nonfinite: nonfinite.Policy = field(default_factory=nonfinite.Policy)

    def is_due(self, every: int | None, step: int) -> bool:
        """Whether what is done every so many steps, and after the last, is due after `step` steps."""
        return every is not None and (step == self.steps or step % every == 0)


def train(
    state: TrainState,
    batches: Iterable[Batch],
    plan: Plan,
    world: World,
    stop: StopFlag,
    *,
    log: Callable[[int, dict[str, float]], None],
    evaluate: Callable[[nn.Module, int], float | None],
    save: Callable[[], None],
    save_best: Callable[[], None],
) -> None:
    """Train `state` in place up to `plan.steps`; raises `Requeue` after a stop signal, with the state saved.

    `evaluate` returns the value that is to grow, or None for no selection. All processes call the four actions.
    """
    base_rates = [group.setdefault("base_lr", group["lr"]) for group in state.optimizer.param_groups]
    statistics = running_statistics(state.model)
    window = Window(state.window, world)

    if state.evaluated < state.step and plan.is_due(plan.eval_every, state.step):
        select(state, evaluate, save_best)  # a signal came before this was done
    for batch in batches:
        started = time.perf_counter()
        factor = plan.schedule(state.step, plan.steps)
        for group, rate in zip(state.optimizer.param_groups, base_rates, strict=True):
            group["lr"] = rate * factor

        reseed(draws(plan.seed, state.step, world.rank), world.device)
        slices = cut(state.model, batch, plan, world)
        before = [tensor.clone() for tensor in statistics] if plan.nonfinite.skip else []
        loss, norm = gradients(state, slices, len(batch.names) * world.size / plan.batch, plan, world)
        faulty, stopping = world.any(not is_sound(state, loss, norm), bool(stop))
        if faulty:
            draw = draws(plan.seed, state.step, world.rank)
            taken = nonfinite.Step(batch.step, batch.names, slices, draw, plan.precision, loss)
            again = partial(loss_of, plan=plan, device=world.device)
            nonfinite.judge(state.model, taken, again, plan.nonfinite, state.skipped, world)
            for tensor, old in zip(statistics, before, strict=True):
                tensor.copy_(old)
            state.skipped += 1
        else:
            update(state, statistics, world)
        state.step += 1
        seconds = time.perf_counter() - started
        state.seconds += seconds + batch.wait
        window.add(None if faulty else loss, len(batch.names), batch.wait, seconds)

        if plan.is_due(plan.log_every, state.step):
            skipped = {"skipped": float(state.skipped)} if state.skipped else {}
            means = window.flush(world)
            state.loss = means["loss"]
            log(state.step, {**means, "lr": state.optimizer.param_groups[0]["lr"], **skipped})
            window.warn_if_data_bound(world)
        if plan.is_due(plan.eval_every, state.step):
            try:
                select(state, evaluate, save_best)
            except Requeue:  # a signal came during the evaluation, which the next start makes up for
                state.window = window.content(world)
                save()
                raise
        if stopping or plan.is_due(plan.save_every, state.step) or plan.is_due(plan.keep_every, state.step):
            state.window = window.content(world)
            save()
        if stopping and state.step < plan.steps:
            raise Requeue(f"Stopped by {stop.describe()} at step {state.step}; saved. Start it again to go on.")


def cut(model: nn.Module, batch: Batch, plan: Plan, world: World) -> list[tuple[Tensor, Tensor]]:
    """Return this process's share of the batch on its device, in as many slices (hazy, clear) as it is to accumulate.

    All processes make the same number, for a network that normalises over all of them waits for each.
    """
    hazy = batch.hazy_BCHW.to(world.device, non_blocking=True)
    clear = batch.clear_BCHW.to(world.device, non_blocking=True)
    if not takes_clips(model):
        hazy, clear = as_frames(hazy), as_frames(clear)
    if plan.channels_last and hazy.ndim == 4:
        hazy = hazy.contiguous(memory_format=torch.channels_last)
    count = min(plan.accumulate, plan.batch // world.size)
    return list(zip(hazy.tensor_split(count), clear.tensor_split(count), strict=True))


def gradients(
    state: TrainState, slices: list[tuple[Tensor, Tensor]], weight: float, plan: Plan, world: World
) -> tuple[float, float]:
    """Leave the gradient of the mean loss over the global batch, clipped, in the parameters.

    `weight` is this process's share of that batch, times the number of processes. Returns its part of the loss (all
    parts sum to it) and the norm of the whole gradient before clipping.
    """
    state.model.train()
    state.optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), dtype=torch.float64, device=world.device)
    images = sum(len(hazy) for hazy, _ in slices)
    for index, (hazy, clear) in enumerate(slices):
        share = len(hazy) / images * weight
        with silent(state.run) if index < len(slices) - 1 else contextlib.nullcontext():
            loss = loss_of(state.run, hazy, clear, plan, world.device) * share
            state.scaler.scale(loss).backward()
        total += loss.detach()
    state.scaler.unscale_(state.optimizer)
    if plan.clip is not None:
        norm = nn.utils.clip_grad_norm_(state.model.parameters(), plan.clip)
    else:
        found = (parameter.grad for parameter in state.model.parameters())
        norm = nn.utils.get_total_norm([gradient for gradient in found if gradient is not None])
    part, length = torch.stack([total / world.size, norm.double()]).tolist()
    return part, length


def loss_of(network: nn.Module, hazy: Tensor, clear: Tensor, plan: Plan, device: torch.device) -> Tensor:
    """Return the mean loss over one slice, in the number format of the run."""
    with autocast(device, plan.precision):
        restored = network(hazy)
        if isinstance(restored, Tensor):
            restored = as_frames(restored)
        return over_scales(plan.loss, restored, as_frames(clear), as_frames(hazy))


def is_sound(state: TrainState, loss: float, norm: float) -> bool:
    """Whether a step may be taken. Gradients that overflow are the loss scaler's affair while it can scale less."""
    return math.isfinite(loss) and (math.isfinite(norm) or (state.scaler.is_enabled() and state.scaler.get_scale() > 1))


def update(state: TrainState, statistics: list[Tensor], world: World) -> None:
    """Move the weights along the gradient, and what follows the weights."""
    state.scaler.step(state.optimizer)
    state.scaler.update()
    average(statistics, world)
    if state.ema is not None:
        state.ema.update_parameters(state.model)


def select(
    state: TrainState, evaluate: Callable[[nn.Module, int], float | None], save_best: Callable[[], None]
) -> None:
    """Evaluate, and keep the weights where they are the best so far."""
    value = evaluate(state.eval_model, state.step)
    state.evaluated = state.step
    if value is not None and value > state.best.get("value", float("-inf")):
        state.best = {"step": float(state.step), "value": value}
        save_best()


def draws(seed: int, step: int, rank: int = 0) -> int:
    """Return the seed of what the network draws in one step (dropout, drop path): no generator state to save."""
    return int.from_bytes(hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()[:8], "little")


def reseed(seed: int, device: torch.device) -> None:
    """Seed what a step draws from. `torch.manual_seed` does it too, but notes a stack for each kind of absent GPU."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)

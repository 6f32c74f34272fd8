"""The training loop: in iterations, with four named actions per step. To change the loop, edit the loop."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from dehaze_bench.engine.losses import Loss, over_scales
from dehaze_bench.engine.signals import StopFlag
from dehaze_bench.engine.state import TrainState
from dehaze_bench.errors import JobError, Requeue

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Batch(Protocol):
    """What the loop needs of a batch: its step, file names, images (B, 3, H, W) and the seconds waited for it."""

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
    """How to train; lengths in steps. `evaluate` returns the value that is to grow, or None for no selection."""

    steps: int
    accumulate: int
    clip: float | None
    precision: str
    log_every: int
    eval_every: int | None
    save_every: int
    schedule: Callable[[int, int], float]
    loss: Loss
    device: torch.device
    seed: int = 0


def train(
    state: TrainState,
    batches: Iterable[Batch],
    plan: Plan,
    *,
    log: Callable[[int, dict[str, float]], None],
    evaluate: Callable[[nn.Module, int], float | None],
    save: Callable[[], None],
    save_best: Callable[[], None],
) -> None:
    """Train `state` in place up to `plan.steps`; raises `Requeue` after a stop signal, with the state saved."""
    base_rates = [group.setdefault("base_lr", group["lr"]) for group in state.optimizer.param_groups]
    window = LogWindow()
    with StopFlag() as stop:
        for batch in batches:
            started = time.perf_counter()
            factor = plan.schedule(state.step, plan.steps)
            for group, rate in zip(state.optimizer.param_groups, base_rates, strict=True):
                group["lr"] = rate * factor

            torch.manual_seed(draws(plan.seed, state.step))
            loss = step(state, batch, plan)
            state.step += 1
            state.seconds += time.perf_counter() - started + batch.wait
            window.add(loss, len(batch.names), batch.wait, time.perf_counter() - started)

            last = state.step == plan.steps
            if last or state.step % plan.log_every == 0:
                log(state.step, {**window.flush(), "lr": state.optimizer.param_groups[0]["lr"]})
            if plan.eval_every and (last or state.step % plan.eval_every == 0):
                value = evaluate(state.eval_model, state.step)
                if value is not None and value > state.best.get("value", float("-inf")):
                    state.best = {"step": float(state.step), "value": value}
                    save_best()
            if last or stop or state.step % plan.save_every == 0:
                save()
            if stop and not last:
                raise Requeue(f"Stopped by {stop.signal} at step {state.step}; saved. Start it again to go on.")


def step(state: TrainState, batch: Batch, plan: Plan) -> float:
    """Do one optimiser step on the global batch, in `plan.accumulate` slices, and return the mean loss."""
    state.model.train()
    state.optimizer.zero_grad(set_to_none=True)
    hazy = batch.hazy_BCHW.to(plan.device, non_blocking=True)
    clear = batch.clear_BCHW.to(plan.device, non_blocking=True)
    total = 0.0
    slices = zip(hazy.chunk(plan.accumulate), clear.chunk(plan.accumulate), strict=True)
    for hazy_part, clear_part in slices:
        share = len(hazy_part) / len(hazy)
        with autocast(plan.device, plan.precision):
            loss = over_scales(plan.loss, state.model(hazy_part), clear_part, hazy_part) * share
        state.scaler.scale(loss).backward()
        total += loss.item()
    if not torch.isfinite(torch.tensor(total)):
        raise JobError(
            f"The loss is {total} at step {batch.step}, on {', '.join(batch.names)}. Lower optimizer.lr, set "
            f"train.clip, or use runtime.precision=fp32; the last checkpoint is intact."
        )
    if plan.clip is not None:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), plan.clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.ema is not None:
        state.ema.update_parameters(state.model)
    return total


def draws(seed: int, step: int, rank: int = 0) -> int:
    """Return the seed of what the network draws in one step (dropout, drop path): no generator state to save."""
    return int.from_bytes(hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()[:8], "little")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the mixed-precision context of `precision` ("fp32" is none)."""
    return torch.autocast(device.type, DTYPES[precision]) if precision in DTYPES else nullcontext()


class LogWindow:
    """Means over the steps since the last log line."""

    def __init__(self) -> None:
        self.loss, self.steps, self.images, self.wait, self.seconds = 0.0, 0, 0, 0.0, 0.0

    def add(self, loss: float, images: int, wait: float, seconds: float) -> None:
        self.loss += loss
        self.steps += 1
        self.images += images
        self.wait += wait
        self.seconds += seconds

    def flush(self) -> dict[str, float]:
        """Return mean loss, images per second and the share of time spent waiting for data, and start again."""
        elapsed = max(self.seconds + self.wait, 1e-9)
        out = {
            "loss": self.loss / max(1, self.steps),
            "images_per_second": self.images / elapsed,
            "data_wait": self.wait / elapsed,
        }
        self.__init__()  # type: ignore[misc]
        return out

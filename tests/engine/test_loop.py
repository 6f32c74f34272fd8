"""The loop: exact resume, accumulation, guards, selection. Numbers are compared to the bit unless said otherwise."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dehaze_bench.engine import checkpoint, loop, precision, state
from dehaze_bench.engine.distributed import World
from dehaze_bench.engine.losses import L1
from dehaze_bench.engine.schedule import Cosine
from dehaze_bench.engine.signals import StopFlag
from dehaze_bench.errors import Requeue

ALONE = World(torch.device("cpu"))


@dataclass
class Batch:
    step: int
    names: list[str]
    hazy_BCHW: Tensor
    clear_BCHW: Tensor
    wait: float = 0.0


def batches(start: int, stop: int, size: int = 4) -> Iterator[Batch]:
    for step in range(start, stop):
        generator = torch.Generator().manual_seed(step)
        hazy, clear = torch.rand(2, size, 3, 8, 8, generator=generator)
        yield Batch(step, [f"{step}-{i}" for i in range(size)], hazy, clear)


def plan(**changes: object) -> loop.Plan:
    base = loop.Plan(
        steps=10,
        batch=4,
        accumulate=1,
        clip=0.1,
        precision="fp32",
        log_every=3,
        eval_every=None,
        save_every=100,
        schedule=Cosine(warmup=2, floor=0.01),
        loss=L1(),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def fresh(ema: float | None = None) -> state.TrainState:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GELU(), nn.Dropout(0.2), nn.Conv2d(4, 3, 3, padding=1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    return state.TrainState(net, optimizer, torch.amp.GradScaler("cpu", enabled=False), state.averaged(net, ema))


def run(
    current: state.TrainState,
    how: loop.Plan,
    data: Iterator[Batch],
    evaluate: Callable[[nn.Module, int], float | None] = lambda model, step: None,
    save: Callable[[], None] = lambda: None,
    save_best: Callable[[], None] = lambda: None,
) -> list[tuple[int, dict[str, float]]]:
    logged: list[tuple[int, dict[str, float]]] = []
    log = lambda step, values: logged.append((step, values))  # noqa: E731
    with StopFlag() as stop:
        loop.train(current, data, how, ALONE, stop, log=log, evaluate=evaluate, save=save, save_best=save_best)
    return logged


def assert_equal(a: nn.Module, b: nn.Module) -> None:
    for (name, left), right in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(left, right), name


@pytest.mark.parametrize("accumulate", [1, 2])
def test_ten_steps_equal_five_and_five_resumed(tmp_path: Path, accumulate: int) -> None:
    how = plan(accumulate=accumulate)
    whole = fresh(ema=0.9)
    run(whole, how, batches(0, 10))

    first = fresh(ema=0.9)
    run(first, replace(how, steps=10), batches(0, 5))
    checkpoint.save(tmp_path, "abc", first.content())
    torch.manual_seed(99)  # a new process would start with other random numbers
    second = fresh(ema=0.9)
    torch.rand(7)
    second.restore(checkpoint.read(tmp_path / "last.pt", "abc"))
    assert second.step == 5
    run(second, how, batches(5, 10))

    assert_equal(whole.model, second.model)
    assert_equal(whole.eval_model, second.eval_model)
    moments = [s["exp_avg"] for s in whole.optimizer.state.values()]
    assert all(torch.equal(a, b["exp_avg"]) for a, b in zip(moments, second.optimizer.state.values(), strict=True))


def test_accumulation_only_slices_the_batch() -> None:
    one, two = fresh(), fresh()
    for current in (one, two):
        current.model[2].p = 0.0  # type: ignore[index,union-attr]
    run(one, plan(steps=4), batches(0, 4))
    run(two, plan(steps=4, accumulate=4), batches(0, 4))
    for left, right in zip(one.model.parameters(), two.model.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)


def test_loss_falls_on_a_learnable_task() -> None:
    current = fresh()
    current.model[2].p = 0.0  # type: ignore[index,union-attr]

    def copies(start: int, stop: int) -> Iterator[Batch]:
        for batch in batches(start, stop):
            yield replace(batch, clear_BCHW=batch.hazy_BCHW * 0.5)

    logged = run(current, plan(steps=150, clip=None, log_every=10), copies(0, 150))
    assert logged[-1][1]["loss"] < 0.6 * logged[0][1]["loss"]


def test_log_lines_and_the_learning_rate_follow_the_schedule() -> None:
    logged = run(fresh(), plan(), batches(0, 10))
    assert [step for step, _ in logged] == [3, 6, 9, 10]
    how = plan()
    assert [values["lr"] for _, values in logged] == pytest.approx([1e-2 * how.schedule(s - 1, 10) for s, _ in logged])
    assert set(logged[0][1]) == {"loss", "images_per_second", "data_wait", "lr"}


def test_selection_keeps_the_largest_value() -> None:
    values = {2: 1.0, 4: 3.0, 6: 2.0, 8: 3.0, 10: 0.0}
    saved: list[int] = []
    current = fresh()
    run(
        current,
        plan(eval_every=2),
        batches(0, 10),
        evaluate=lambda model, step: values[step],
        save_best=lambda: saved.append(current.step),
    )
    assert saved == [2, 4]
    assert current.best == {"step": 4.0, "value": 3.0}


def test_a_signal_saves_at_the_end_of_the_step_and_asks_for_requeue(tmp_path: Path) -> None:
    current = fresh()

    def interrupted() -> Iterator[Batch]:
        for batch in batches(0, 10):
            if batch.step == 3:
                os.kill(os.getpid(), signal.SIGUSR1)
            yield batch

    save = lambda: checkpoint.save(tmp_path, "abc", current.content())  # noqa: E731
    with pytest.raises(Requeue, match="SIGUSR1 at step 4") as caught:
        run(current, plan(), interrupted(), save=save)
    assert caught.value.exit_code == 75
    assert checkpoint.read(tmp_path / "last.pt", "abc")["step"] == 4


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_mixed_precision_trains_and_keeps_float32_weights(kind: str) -> None:
    current = fresh()
    current.scaler = precision.scaler(torch.device("cpu"), kind)
    logged = run(current, plan(precision=kind, steps=4), batches(0, 4))
    assert all(torch.isfinite(torch.tensor(values["loss"])) for _, values in logged)
    assert {parameter.dtype for parameter in current.model.parameters()} == {torch.float32}


def test_a_signal_during_an_evaluation_saves_the_step_and_the_next_start_makes_up_for_it(tmp_path: Path) -> None:
    def saved(current: state.TrainState) -> Callable[[], None]:
        return lambda: checkpoint.save(tmp_path, "abc", current.content()) and None

    def interrupted(model: nn.Module, step: int) -> float | None:
        raise Requeue("stopped while it evaluated")

    first, how = fresh(), plan(eval_every=4)
    with pytest.raises(Requeue):
        run(first, how, batches(0, 10), evaluate=interrupted, save=saved(first))
    second = fresh()
    second.restore(checkpoint.read(tmp_path / "last.pt", "abc"))
    assert (second.step, second.evaluated) == (4, 0)
    seen: list[int] = []
    run(second, how, batches(4, 10), evaluate=lambda model, step: seen.append(step))
    assert seen == [4, 8, 10]


def test_a_kill_in_the_middle_of_accumulation_leaves_nothing_behind(tmp_path: Path) -> None:
    """The step that was cut is taken again whole; averaged weights and optimiser are those of an undisturbed run."""
    how = plan(accumulate=4, save_every=2)
    whole = fresh(ema=0.9)
    run(whole, how, batches(0, 10))
    cut, calls = fresh(ema=0.9), 0

    def killed(module: nn.Module, args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 4 * 5 + 3:  # the third slice of the sixth step
            raise KeyboardInterrupt

    cut.model.register_forward_pre_hook(killed)
    with pytest.raises(KeyboardInterrupt):
        run(cut, how, batches(0, 10), save=lambda: checkpoint.save(tmp_path, "abc", cut.content()) and None)
    second = fresh(ema=0.9)
    second.restore(checkpoint.read(tmp_path / "last.pt", "abc"))
    assert second.step == 4
    run(second, how, batches(4, 10))
    assert_equal(whole.model, second.model)
    assert_equal(whole.eval_model, second.eval_model)


def test_a_run_that_waits_for_data_is_told_so_once(caplog: pytest.LogCaptureFixture) -> None:
    slow = [replace(batch, wait=10.0) for batch in batches(0, 10)]
    run(fresh(), plan(log_every=1), iter(slow))
    assert sum("waits for data for" in record.message for record in caplog.records) == 1
    assert "raise runtime.workers" in caplog.text
    caplog.clear()
    run(fresh(), plan(log_every=1), batches(0, 10))
    assert not caplog.records


def test_a_loss_scaler_that_overflows_is_no_error_and_takes_no_step() -> None:
    current = fresh()
    current.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1000)
    before = [parameter.clone() for parameter in current.model.parameters()]
    run(current, plan(precision="fp16", steps=1), batches(0, 1))
    assert all(torch.equal(old, new) for old, new in zip(before, current.model.parameters(), strict=True))
    assert current.scaler.get_scale() == 2.0**126 and current.skipped == 0


def test_a_resume_between_two_log_lines_logs_the_same_losses(tmp_path: Path) -> None:
    whole = run(fresh(), plan(), batches(0, 10))
    first = fresh()
    run(
        first,
        plan(save_every=1),
        batches(0, 5),
        save=lambda: checkpoint.save(tmp_path, "abc", first.content()) and None,
    )
    second = fresh()
    second.restore(checkpoint.read(tmp_path / "last.pt", "abc"))
    logged = run(second, plan(), batches(5, 10))
    assert [(step, values["loss"]) for step, values in logged] == [(step, v["loss"]) for step, v in whole[1:]]
    assert second.loss == whole[-1][1]["loss"]

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

from dehaze_bench.engine import loop, state
from dehaze_bench.engine.losses import L1
from dehaze_bench.engine.schedule import Cosine
from dehaze_bench.errors import JobError, Requeue

CPU = torch.device("cpu")


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
        accumulate=1,
        clip=0.1,
        precision="fp32",
        log_every=3,
        eval_every=None,
        save_every=100,
        schedule=Cosine(warmup=2, floor=0.01),
        loss=L1(),
        device=CPU,
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
    loop.train(current, data, how, log=log, evaluate=evaluate, save=save, save_best=save_best)
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
    first.save(tmp_path / "last.pt", "abc")
    torch.manual_seed(99)  # a new process would start with other random numbers
    second = fresh(ema=0.9)
    torch.rand(7)
    second.load(tmp_path / "last.pt", "abc")
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


def test_a_non_finite_loss_stops_with_step_and_names() -> None:
    bad = list(batches(0, 3))
    bad[1].clear_BCHW[0, 0, 0, 0] = float("nan")
    with pytest.raises(JobError, match=r"loss is nan at step 1, on 1-0, 1-1"):
        run(fresh(), plan(steps=3), iter(bad))


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

    save = lambda: current.save(tmp_path / "last.pt", "abc")  # noqa: E731
    with pytest.raises(Requeue, match="SIGUSR1 at step 4") as caught:
        run(current, plan(), interrupted(), save=save)
    assert caught.value.exit_code == 75
    assert state.read_checkpoint(tmp_path / "last.pt", "abc")["step"] == 4


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains_and_keeps_float32_weights(precision: str) -> None:
    current = fresh()
    current.scaler = torch.amp.GradScaler("cpu", enabled=precision == "fp16")
    logged = run(current, plan(precision=precision, steps=4), batches(0, 4))
    assert all(torch.isfinite(torch.tensor(values["loss"])) for _, values in logged)
    assert {parameter.dtype for parameter in current.model.parameters()} == {torch.float32}


def test_a_torn_checkpoint_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    fresh().save(path, "abc")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(JobError, match=r"last\.pt cannot be read.*Delete"):
        fresh().load(path, "abc")


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    fresh().save(tmp_path / "last.pt", "abc")
    with pytest.raises(JobError, match="belongs to run abc, not xyz"):
        fresh().load(tmp_path / "last.pt", "xyz")


def test_a_failed_write_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    current = fresh()
    current.step = 7
    current.save(path, "abc")
    monkeypatch.setattr(torch, "save", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    current.step = 8
    with pytest.raises(OSError, match="disk full"):
        current.save(path, "abc")
    monkeypatch.undo()
    assert state.read_checkpoint(path, "abc")["step"] == 7
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]

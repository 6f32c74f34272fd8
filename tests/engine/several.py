"""What `test_distributed` starts with torchrun: each process runs the checks below, process 0 writes what it found."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dehaze_bench.data.sampler import positions
from dehaze_bench.engine import checkpoint, distributed, evaluation, loop, nonfinite, state
from dehaze_bench.engine.distributed import World
from dehaze_bench.engine.signals import StopFlag
from dehaze_bench.errors import BenchError, JobError, Requeue
from tests.engine import test_evaluation as pictures
from tests.engine import test_loop as loops

BATCH = 5  # no number of processes above 1 divides it
ALONE = World(torch.device("cpu"))


class Net(nn.Module):
    """Two parameters get no gradient: one is never used, one in odd steps alone."""

    odd = False

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1)
        self.never, self.seldom = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(torch.nn.functional.gelu(self.first(x)))
        return out * self.seldom if self.odd else out


def fresh() -> state.TrainState:
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    return state.TrainState(net, optimizer, torch.amp.GradScaler("cpu", enabled=False), state.averaged(net, 0.9))


def share(world: World, start: int, stop: int, model: nn.Module) -> Iterator[loops.Batch]:
    mine = list(positions(BATCH, world.rank, world.size))
    for batch in loops.batches(start, stop, BATCH):
        names = [batch.names[position] for position in mine]
        model.odd = batch.step % 2 == 1
        yield loops.Batch(batch.step, names, batch.hazy_BCHW[mine], batch.clear_BCHW[mine])


def train(world: World, steps: range, resumed: state.TrainState | None = None, **changes: object) -> state.TrainState:
    current = fresh() if resumed is None else resumed
    current.run = distributed.spread(current.model, world)
    how = loops.plan(steps=20, batch=BATCH, **changes)
    logged: list[dict[str, float]] = []
    with StopFlag() as stop:
        loop.train(
            current,
            share(world, steps.start, steps.stop, current.model),
            how,
            world,
            stop,
            log=lambda step, values: logged.append(values),
            evaluate=lambda model, step: None,
            save=lambda: None,
            save_best=lambda: None,
        )
    current.logged = logged  # type: ignore[attr-defined]
    return current


def difference(left: nn.Module, right: nn.Module) -> float:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return max(float((one - two).abs().max()) for one, two in pairs)


def check_weights(world: World) -> dict[str, float]:
    """Weights, averages and logged losses after 20 steps against those of one process."""
    found = {}
    for accumulate in (1, 2, 4):
        one, many = (train(each, range(20), accumulate=accumulate) for each in (ALONE, world))
        found[f"weights, accumulate {accumulate}"] = difference(one.model, many.model)
        found[f"average, accumulate {accumulate}"] = difference(one.eval_model, many.eval_model)
        losses = zip(one.logged, many.logged, strict=True)  # type: ignore[attr-defined]
        found[f"loss, accumulate {accumulate}"] = max(abs(a["loss"] - b["loss"]) for a, b in losses)
    return found


def check_resume(world: World, folder: Path) -> dict[str, float]:
    """Ten steps, a checkpoint, ten more: in as many processes to the bit, in one process nearly so."""
    whole = train(world, range(20), accumulate=2)
    half = train(world, range(10), accumulate=2)
    world.once(lambda: checkpoint.save(folder, "abc", half.content()) and None)
    found = {}
    for name, each in (("resumed", world), ("resumed in one process", ALONE)):
        again = fresh()
        again.restore(checkpoint.read(folder / checkpoint.LAST, "abc"))
        train(each, range(10, 20), again, accumulate=2)
        found[name] = max(difference(whole.model, again.model), difference(whole.eval_model, again.eval_model))
    return found


def check_statistics(world: World) -> float:
    """Running statistics are averaged: afterwards they are the same in all processes."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    current = state.TrainState(net, torch.optim.SGD(net.parameters(), 0.1), torch.amp.GradScaler("cpu", enabled=False))
    train(world, range(5), current)
    told = world.gather([tensor.tolist() for tensor in distributed.running_statistics(net)])
    return float((torch.tensor(told) - torch.tensor(told[:1])).abs().max())


def check_evaluation(world: World) -> dict[str, bool]:
    """Rows are those of one process, each once; an error in one process is that of all."""
    pairs = pictures.pairs() + [replace(pair, name=f"{pair.name}x") for pair in pictures.pairs()[:3]]
    one, many = (evaluation.evaluate(lambda x: x * 0.9, pairs, pictures.Mean(), world=each) for each in (ALONE, world))
    spoiled = [*pairs[:1], replace(pairs[1], hazy=pairs[1].hazy * float("nan")), *pairs[2:]]
    texts = world.gather(_told(lambda: evaluation.evaluate(lambda x: x, spoiled, pictures.Mean(), world=world)))
    few = evaluation.evaluate(lambda x: x, pairs[:1], pictures.Mean(), world=world)
    return {
        "rows": one.rows == many.rows and one.places == many.places and one.means == many.means,
        "error": len(set(texts)) == 1 and "non-finite values for 'p1'" in texts[0],
        "fewer images than processes": [name for name, _ in few.rows] == ["p0"],
    }


def check_agreement(world: World) -> dict[str, bool]:
    """Flags, sums, what process 0 does alone, and errors of it."""

    def fail() -> None:
        raise JobError("process 0 could not")

    last = world.rank == world.size - 1
    return {
        "any": world.any(last, False) == (True, False),
        "sum": world.sum(1.0, float(world.rank)) == (float(world.size), world.size * (world.size - 1) / 2),
        "once": world.once(lambda: {"rank": world.rank}) == {"rank": 0},
        "error": world.gather(_told(lambda: world.once(fail))) == ["process 0 could not"] * world.size,
        "identity": all("do not have the same config" in t for t in world.gather(_told(lambda: _differ(world)))),
    }


def check_stop(world: World) -> dict[str, bool]:
    """A signal to one process stops all of them after the same step."""
    import os
    import signal

    current = fresh()
    current.run = distributed.spread(current.model, world)

    def interrupted() -> Iterator[loops.Batch]:
        for batch in share(world, 0, 20, current.model):
            if batch.step == 3 and world.rank == world.size - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    saved: list[int] = []
    text = ""
    try:
        with StopFlag() as stop:
            loop.train(
                current,
                interrupted(),
                loops.plan(steps=20, batch=BATCH),
                world,
                stop,
                log=lambda step, values: None,
                evaluate=lambda model, step: None,
                save=lambda: saved.append(current.step),
                save_best=lambda: None,
            )
    except Requeue as error:
        text = str(error)
    told = world.gather((saved, text))
    return {
        "same step": [steps for steps, _ in told] == [[4]] * world.size,
        "text": all("at step 4" in text for _, text in told),
    }


def check_nonfinite(world: World, folder: Path) -> dict[str, bool]:
    """A loss that is not finite in one process is one error everywhere, and one reproducer: that process's share."""
    current = fresh()
    bad = list(share(world, 0, 20, current.model))
    last = world.size - 1
    if world.rank == last:
        bad[2].clear_BCHW[0, 0, 0, 0] = float("nan")
    current.run = distributed.spread(current.model, world)
    how = loops.plan(steps=20, batch=BATCH, nonfinite=nonfinite.Policy(folder=folder))

    def run(plan: loop.Plan, data: list[loops.Batch]) -> None:
        with StopFlag() as stop:
            loop.train(
                current,
                iter(data),
                plan,
                world,
                stop,
                log=lambda step, values: None,
                evaluate=lambda model, step: None,
                save=lambda: None,
                save_best=lambda: None,
            )

    texts = world.gather(_told(lambda: run(how, bad)))
    name = f"2-{positions(BATCH, last, world.size)[0]}"
    kept = torch.load(folder / "nonfinite-step2.pt", weights_only=True)
    current = fresh()
    current.run = distributed.spread(current.model, world)
    run(replace(how, nonfinite=nonfinite.Policy(skip=True)), bad)
    return {
        "one text": len(set(texts)) == 1 and f"at step 2, on {name}" in texts[0],
        "reproducer": kept["names"][0] == name and len(list(folder.glob("nonfinite*"))) == 1,
        "skipped by all": world.gather(current.skipped) == [1] * world.size,
    }


def _differ(world: World) -> None:
    world.agree(str(world.rank), "config")


def _told(make: Callable[[], object]) -> str:
    try:
        make()
    except BenchError as error:
        return str(error)
    return "nothing was raised"


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with distributed.join(torch.device("cpu")) as world:
        found = {
            "weights": check_weights(world),
            "resume": check_resume(world, folder),
            "statistics": check_statistics(world),
            "evaluation": check_evaluation(world),
            "agreement": check_agreement(world),
            "stop": check_stop(world),
            "nonfinite": check_nonfinite(world, folder),
        }
        if world.first:
            (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

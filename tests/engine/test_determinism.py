"""`runtime.deterministic=true`: the same weights to the bit, twice, on every mixer and with more than one thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from dehaze_bench.engine import precision, state
from dehaze_bench.registry import list_choices
from tests import tiny
from tests.engine import test_loop as loops


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    precision.settle(torch.device("cpu"), "fp32", True)
    yield
    precision.settle(torch.device("cpu"), "fp32", False)
    torch.set_num_threads(threads)


def weights(mixer: str, kind: str) -> list[torch.Tensor]:
    cfg = compose_run([f"model/mixer={mixer}", "scan=cross", *tiny.NETWORK[2:], "track=off"]).cfg
    torch.manual_seed(0)
    network: nn.Module = build.model(cfg)
    current = state.TrainState(network, build.optimizer(cfg, network), precision.scaler(torch.device("cpu"), kind))
    pairs = (
        loops.Batch(b.step, b.names, *(x.repeat(1, 1, 2, 2) for x in (b.hazy_BCHW, b.clear_BCHW)))
        for b in loops.batches(0, 2)
    )
    loops.run(current, loops.plan(steps=2, precision=kind), pairs)
    return [tensor.clone() for tensor in network.state_dict().values()]


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
@pytest.mark.parametrize("mixer", sorted(list_choices("model/mixer")))
def test_weights_are_bit_equal_twice(mixer: str, kind: str) -> None:
    first, second = weights(mixer, kind), weights(mixer, kind)
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    torch.manual_seed(0)
    start = build.model(compose_run([f"model/mixer={mixer}", "scan=cross", *tiny.NETWORK[2:], "track=off"]).cfg)
    assert any(not torch.equal(one, two) for one, two in zip(first, start.state_dict().values(), strict=True))

"""Activation checkpointing: the same values and gradients, fewer activations; which blocks are chosen."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from dehaze_bench.engine.recompute import recompute, repeated_blocks
from dehaze_bench.errors import UsageError
from tests import tiny


class Block(nn.Module):
    """Everything that could go wrong: dropout, running statistics, a residual."""

    def __init__(self) -> None:
        super().__init__()
        layers = (nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.3))
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        out: Tensor = x + scale * self.body(x)
        return out


class Stage(nn.Module):
    """A stage of two blocks; the second is called with a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks[1](self.blocks[0](x), scale=0.5)
        return out


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)
        self.stages = nn.Sequential(Stage(), Stage())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.stages(self.first(x)))
        return out


def step(network: nn.Module, image: Tensor) -> tuple[Tensor, int]:
    """Return the output of a training step, and how many numbers were kept for its backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    torch.manual_seed(7)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = network(image)
    out.square().mean().backward()
    return out.detach(), sum(kept.values())


def compare(plain: nn.Module, image: Tensor) -> tuple[int, int]:
    again = copy.deepcopy(plain)
    assert recompute(again)
    (left, before), (right, after) = step(plain, image), step(again, image)
    torch.testing.assert_close(left, right, rtol=0, atol=1e-6)
    for (name, one), two in zip(plain.named_parameters(), again.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None), name
        if one.grad is not None and two.grad is not None:
            torch.testing.assert_close(one.grad, two.grad, rtol=0, atol=1e-6, msg=name)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    return before, after


def test_blocks_are_chosen_and_stages_opened() -> None:
    assert repeated_blocks(Net()) == [f"stages.{stage}.blocks.{block}" for stage in (0, 1) for block in (0, 1)]


def test_values_gradients_and_running_statistics_stay_and_fewer_activations_are_kept() -> None:
    torch.manual_seed(0)
    before, after = compare(Net(), torch.rand(2, 3, 16, 16))
    assert after < 0.6 * before


@pytest.mark.parametrize("mixer", ["mamba", "mamba2", "wkv", "attention", "s4d", "gru"])
def test_gradients_of_mixers_stay(mixer: str) -> None:
    torch.manual_seed(0)
    depths = "model.depths=[2,0,2,0,0]"
    cfg = compose_run([f"model/mixer={mixer}", "scan=cross", *tiny.NETWORK[2:], depths, "track=off"]).cfg
    before, after = compare(build.model(cfg), torch.rand(1, 3, 16, 16))
    assert after < before


def test_evaluation_and_copies_are_untouched() -> None:
    network = Net()
    twin = copy.deepcopy(network)
    recompute(network)
    image = torch.rand(1, 3, 8, 8)
    network.eval()
    twin.eval()
    with torch.no_grad():
        assert torch.equal(network(image), twin(image))
    assert network.state_dict().keys() == twin.state_dict().keys()


def test_a_network_without_repeated_blocks_is_named() -> None:
    with pytest.raises(UsageError, match="Sequential has no repeated blocks"):
        recompute(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)))

"""Numbers that are not finite: where they come from, in words; the reproducer; skipping up to a limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dehaze_bench.engine import nonfinite
from dehaze_bench.errors import JobError
from tests.engine import test_loop as loops


def loss_of(network: nn.Module, hazy: Tensor, clear: Tensor) -> Tensor:
    return (network(hazy) - clear).abs().mean()


class Part(nn.Module):
    """A convolution, then some function between modules."""

    def __init__(self, function: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.last = nn.Conv2d(3, 3, 1)
        self.function = function or (lambda x: x)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.conv(x)))


class Root(nn.Module):
    """The square root, whose gradient at 0 is infinite, times the slope of the absolute value there, which is 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs().sqrt()


def where(network: nn.Module, hazy: Tensor | None = None, loss: nonfinite.LossOf = loss_of) -> str | None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, 4, 4) if hazy is None else hazy
    return nonfinite.locate(network, [(image, torch.rand(2, 3, 4, 4))], loss)


def test_a_sound_step_has_no_culprit() -> None:
    assert where(nn.Sequential(Part(), Part())) is None


def test_the_batch_itself() -> None:
    assert where(Part(), torch.full((2, 3, 4, 4), float("inf"))) == "The batch itself is not finite"


def test_weights_that_are_not_finite() -> None:
    network = nn.Sequential(Part(), Part())
    network[1].last.bias.data[1] = float("nan")  # type: ignore[union-attr]
    assert where(network) == "The weights of layer '1.last' (Conv2d) are not finite"


def test_the_first_layer_of_the_forward_pass() -> None:
    network = nn.Sequential(Part(), Part(), Part())
    network[0].last.bias.data.fill_(100.0)  # type: ignore[union-attr]
    network[1].conv.weight.data.fill_(3e38)  # type: ignore[union-attr]
    assert where(network) == "The first layer whose output is not finite is '1.conv' (Conv2d)"


def test_a_function_between_layers() -> None:
    found = where(nn.Sequential(Part(), Part(lambda x: x / 0)))
    assert found == "The first layer to meet it is '1.last' (Conv2d): its input is not finite already"


def test_the_loss_function() -> None:
    found = where(Part(), loss=lambda net, hazy, clear: net(hazy).sum() * float("inf"))
    assert found == "The restored images are finite, the loss function makes it"


def test_the_first_layer_of_the_backward_pass() -> None:
    network = nn.Sequential(Part(), Root(), Part())
    network[0].last.weight.data.fill_(0.0)  # type: ignore[union-attr]
    network[0].last.bias.data.fill_(0.0)  # type: ignore[union-attr]
    assert where(network) == "The forward pass is finite; the first gradient that is not leaves layer '1' (Root)"


def test_a_gradient_that_a_function_between_layers_spoils() -> None:
    network = nn.Sequential(Part(), Part(lambda x: (x * 0).sqrt()))
    found = where(network)
    assert found is not None and "reaches layer '1.conv' (Conv2d) from behind" in found


def test_hooks_and_gradients_are_gone_afterwards() -> None:
    network = Part()
    where(network)
    assert all(not module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def spoiled(*steps: int) -> list[loops.Batch]:
    found = list(loops.batches(0, 10))
    for step in steps:
        found[step].clear_BCHW[0, 0, 0, 0] = float("nan")
    return found


def test_a_run_stops_with_one_error_and_a_file_that_reproduces_it(tmp_path: Path) -> None:
    current = loops.fresh()
    policy = nonfinite.Policy(folder=tmp_path)
    before: dict[str, Tensor] = {}

    def remember() -> None:
        before.update({name: tensor.clone() for name, tensor in current.model.state_dict().items()})

    how = loops.plan(nonfinite=policy, save_every=1, accumulate=2)
    with pytest.raises(
        JobError, match=r"The loss is nan at step 3, on 3-0, 3-1, 3-2, 3-3\. The batch itself"
    ) as caught:
        loops.run(current, how, iter(spoiled(3)), save=remember)
    assert "weights_only=True" in str(caught.value) and "train.nonfinite=skip" in str(caught.value)
    kept = torch.load(tmp_path / "nonfinite-step3.pt", weights_only=True)
    assert kept["names"] == ["3-0", "3-1", "3-2", "3-3"] and kept["precision"] == "fp32"
    assert all(torch.equal(tensor, kept["weights"][name]) for name, tensor in before.items())
    again = loops.fresh()
    again.model.load_state_dict(kept["weights"])
    torch.manual_seed(kept["draw"])
    losses = [F.l1_loss(again.model(hazy), clear) for hazy, clear in zip(kept["hazy"], kept["clear"], strict=True)]
    assert [bool(torch.isfinite(loss)) for loss in losses] == [False, True]


def test_a_gradient_is_found_where_the_loss_is_finite() -> None:
    current = loops.fresh()
    current.model.insert(1, Root())  # type: ignore[operator]
    for parameter in current.model[0].parameters():  # type: ignore[index,union-attr]
        parameter.data.fill_(0.0)
    with pytest.raises(JobError, match=r"The gradient is not finite at step 0.*leaves layer '1' \(Root\)"):
        loops.run(current, loops.plan(clip=None), loops.batches(0, 10))


def test_skipping_goes_on_without_the_step_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    current = loops.fresh(ema=0.9)
    weights: list[Tensor] = []
    save = lambda: weights.append(current.model[0].weight.detach().clone())  # type: ignore[index] # noqa: E731
    how = loops.plan(nonfinite=nonfinite.Policy(skip=True, max_skipped=2), save_every=1, log_every=1)
    logged = loops.run(current, how, iter(spoiled(3, 6)), save=save)
    assert torch.equal(weights[2], weights[3]) and torch.equal(weights[5], weights[6])
    assert not torch.equal(weights[3], weights[4])
    assert current.skipped == 2 and current.step == 10
    assert [values.get("skipped") for _, values in logged] == [None] * 3 + [1.0] * 3 + [2.0] * 4
    assert "Step 3 is skipped (1 of at most 2)" in caplog.text and "3-0, 3-1" in caplog.text
    assert all(torch.isfinite(parameter).all() for parameter in current.eval_model.parameters())


def test_skipping_has_a_limit() -> None:
    how = loops.plan(nonfinite=nonfinite.Policy(skip=True, max_skipped=2))
    with pytest.raises(JobError, match=r"at step 7.* 2 steps were skipped already \(train.max_skipped\)"):
        loops.run(loops.fresh(), how, iter(spoiled(1, 2, 7)))


def test_a_skipped_step_leaves_running_statistics_alone() -> None:
    current = loops.fresh()
    norm = nn.BatchNorm2d(4)
    current.model.insert(1, norm)  # type: ignore[operator]
    bad = spoiled(1)
    bad[1].hazy_BCHW[0, 0, 0, 0] = float("nan")
    loops.run(current, loops.plan(steps=2, nonfinite=nonfinite.Policy(skip=True)), iter(bad[:2]))
    assert norm.running_mean is not None and torch.isfinite(norm.running_mean).all()

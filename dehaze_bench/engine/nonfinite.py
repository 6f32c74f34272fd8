"""A loss or gradient that is not finite: where it came from, a file to reproduce it, how often it may be passed over.

The step is done once more from the same weights and the same random draws, on the bare network with hooks in it. The
first module whose output is not finite although its input is, is the one; where the forward pass is sound, the first
whose gradient is not finite although the gradient that reached it is.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dehaze_bench.engine.distributed import World
from dehaze_bench.errors import JobError

LossOf = Callable[[nn.Module, Tensor, Tensor], Tensor]  # (network, hazy, clear) -> scalar
REMEDY = (
    "Lower optimizer.lr, set train.clip, use runtime.precision=fp32, or pass such steps over: train.nonfinite=skip."
)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Policy:
    """What to do: stop, or skip the step, at most `max_skipped` times in a run. A reproducer goes to `folder`."""

    skip: bool = False
    max_skipped: int = 10
    folder: Path | None = None


@dataclass(frozen=True)
class Step:
    """One process's share of a step, as it was taken: enough to take it again."""

    step: int
    names: Sequence[str]
    slices: Sequence[tuple[Tensor, Tensor]]  # (hazy, clear)
    draw: int
    precision: str
    loss: float


def judge(network: nn.Module, taken: Step, loss_of: LossOf, policy: Policy, skipped: int, world: World) -> None:
    """Return where the step may be passed over, with a line that says so, else raise `JobError`.

    All processes call this. `skipped` counts the steps passed over before this one.
    """
    if policy.skip and skipped < policy.max_skipped:
        losses, names = zip(*world.gather((taken.loss, list(taken.names))), strict=True)
        if world.first:
            _LOG.warning(
                "Step %d is skipped (%d of at most %d): its loss is %s or its gradient is not finite, on %s.",
                taken.step,
                skipped + 1,
                policy.max_skipped,
                sum(losses),
                ", ".join(name for each in names for name in each),
            )
        return
    found = world.gather(_investigate(network, taken, loss_of))
    rank = next((rank for rank, where in enumerate(found) if where is not None), 0)
    text = ""
    if rank == world.rank:
        where = found[rank] or "It did not happen again when the step was repeated: suspect the hardware"
        text = _describe(taken, where, policy, skipped) + _keep(network, taken, where, policy.folder)
    raise JobError(world.gather(text)[rank])


def locate(network: nn.Module, slices: Sequence[tuple[Tensor, Tensor]], loss_of: LossOf) -> str | None:
    """Return where the first number that is not finite comes from, in words; None where all are finite.

    Gradients of the network are gone afterwards.
    """
    network.zero_grad(set_to_none=True)
    try:
        for hazy, clear in slices:
            if not (torch.isfinite(hazy).all() and torch.isfinite(clear).all()):
                return "The batch itself is not finite"
            with _watch(network) as seen:
                loss = loss_of(network, hazy, clear)
                if not seen and not torch.isfinite(loss):
                    return "The restored images are finite, the loss function makes it"
                if not seen:
                    loss.backward()
                if seen:
                    return seen[0]
        return None
    finally:
        network.zero_grad(set_to_none=True)


def _investigate(network: nn.Module, taken: Step, loss_of: LossOf) -> str | None:
    torch.manual_seed(taken.draw)
    return locate(network, taken.slices, loss_of)


@contextlib.contextmanager
def _watch(network: nn.Module) -> Iterator[list[str]]:
    """Fill a list with what is not finite, in the order in which it happens."""
    seen: list[str] = []
    names = {module: name or type(network).__name__ for name, module in network.named_modules()}
    reached: dict[nn.Module, bool] = {}  # whether the gradient that reached a module's output was finite

    def after_forward(module: nn.Module, args: Any, output: Any) -> None:
        label = f"'{names[module]}' ({type(module).__name__})"
        outputs, inputs = list(_tensors(output)), list(_tensors(args))
        if seen:
            return
        if not _finite(outputs):
            if not _finite(inputs):
                seen.append(f"The first layer to meet it is {label}: its input is not finite already")
            elif not _finite(list(module.parameters())):
                seen.append(f"The weights of layer {label} are not finite")
            else:
                seen.append(f"The first layer whose output is not finite is {label}")
            return
        for tensor in outputs:
            if tensor.requires_grad:
                tensor.register_hook(lambda grad: reached.__setitem__(module, bool(torch.isfinite(grad).all())))
        for tensor in [*inputs, *module.parameters(recurse=False)]:
            if tensor.requires_grad:
                tensor.register_hook(lambda grad: arrive(module, label, grad))

    def arrive(module: nn.Module, label: str, grad: Tensor) -> None:
        if seen or bool(torch.isfinite(grad).all()):
            return
        if reached.get(module, True):
            seen.append(f"The forward pass is finite; the first gradient that is not leaves layer {label}")
        else:
            seen.append(f"The forward pass is finite; the gradient is not where it reaches layer {label} from behind")

    handles = [module.register_forward_hook(after_forward) for module in network.modules()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex():
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _finite(tensors: Sequence[Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def _describe(taken: Step, where: str, policy: Policy, skipped: int) -> str:
    what = "The gradient is not finite" if _is_finite(taken.loss) else f"The loss is {taken.loss}"
    before = f" {skipped} steps were skipped already (train.max_skipped)." if policy.skip else ""
    return f"{what} at step {taken.step}, on {', '.join(taken.names)}. {where}.{before} {REMEDY}"


def _is_finite(value: float) -> bool:
    return value - value == 0.0


def _keep(network: nn.Module, taken: Step, where: str, folder: Path | None) -> str:
    """Write what reproduces the step, and return a sentence on how to load it."""
    if folder is None:
        return ""
    path = folder / f"nonfinite-step{taken.step}.pt"
    content = {
        "step": taken.step,
        "names": list(taken.names),
        "loss": taken.loss,
        "where": where,
        "precision": taken.precision,
        "draw": taken.draw,
        "hazy": [hazy.cpu() for hazy, _ in taken.slices],
        "clear": [clear.cpu() for _, clear in taken.slices],
        "weights": {name: tensor.cpu() for name, tensor in network.state_dict().items()},
    }
    try:
        torch.save(content, path)
    except (OSError, RuntimeError) as error:
        return f" (The batch and the weights could not be kept in {path}: {error}.)"
    return (
        f" The batch and the weights before the step are in {path}: torch.load(PATH, weights_only=True) gives hazy and "
        f"clear (a list of slices), names, precision, draw (for torch.manual_seed) and weights (for load_state_dict)."
    )

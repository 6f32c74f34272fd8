"""Activation checkpointing: repeated blocks keep their input alone and are run again when their gradients are due."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from dehaze_bench.errors import UsageError

# A block that consists of repeated blocks for this share of its parameters is a stage: its blocks are taken, not it.
STAGE = 0.8


def recompute(network: nn.Module) -> list[str]:
    """Run the repeated blocks of a network again in the backward pass, from now on; return their names.

    Values and gradients stay what they were: a block draws the same random numbers the second time, and running
    statistics of batch normalisation move the first time only. Raises `UsageError` for a network without such blocks.
    """
    names = repeated_blocks(network)
    if not names:
        raise UsageError(
            f"runtime.checkpointing=true: {type(network).__name__} has no repeated blocks whose activations could be "
            f"computed again. Leave it out."
        )
    for name in names:
        _wrap(network.get_submodule(name))
    return names


def repeated_blocks(network: nn.Module) -> list[str]:
    """Return the names of the blocks that a network repeats: siblings of one class of ours in a list or a sequence."""
    found: list[str] = []

    def visit(module: nn.Module, prefix: str) -> None:
        for name, child in module.named_children():
            path = f"{prefix}{name}"
            if not _is_repeated(module, child) or _is_stage(child):
                visit(child, f"{path}.")
            else:
                found.append(path)

    visit(network, "")
    return found


def _is_repeated(parent: nn.Module, child: nn.Module) -> bool:
    if not isinstance(parent, (nn.ModuleList, nn.Sequential)) or type(child).__module__.startswith("torch."):
        return False
    return sum(type(other) is type(child) for other in parent.children()) > 1 and _size(child) > 0


def _is_stage(module: nn.Module) -> bool:
    inside = repeated_blocks(module)
    return sum(_size(module.get_submodule(name)) for name in inside) >= STAGE * _size(module) if inside else False


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _wrap(block: nn.Module) -> None:
    run: Callable[..., Any] = block.forward

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _still_statistics(block)

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return run(*args, **kwargs)
        return checkpoint(run, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    block.forward = forward


@contextmanager
def _still_statistics(block: nn.Module) -> Iterator[None]:
    """Keep running statistics where they are; in training mode they do not enter the output."""
    moving = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    momenta = [norm.momentum for norm in moving]
    counts = [None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in moving]
    for norm in moving:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(moving, momenta, counts, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None:
                norm.num_batches_tracked.copy_(count)

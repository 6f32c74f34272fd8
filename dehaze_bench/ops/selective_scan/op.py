"""The custom op `dehaze_bench::selective_scan`: traceable, countable, with its backward pass as a second op.

FLOPs by the field's convention for this operator: 9 B L D N operations forward (the figure that VMamba's tables add, as
it stands, to the multiply-accumulates of the dense layers; the skip and the gate are left out), twice that backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from dehaze_bench.ops.order import check_order
from dehaze_bench.ops.selective_scan import cpu, reference

OPERATIONS_PER_STATE = 9

GRADIENTS = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial")


@torch.library.custom_op("dehaze_bench::selective_scan", mutates_args=())
def selective_scan_op(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    order: Tensor | None,
    initial: Tensor | None,
    delta_softplus: bool,
    backend: str,
    save_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y in u's dtype, the last state, and the chunk states that the backward pass starts from."""
    check_order(order, u.shape[1])
    if backend == "numba":
        y, last, states = cpu.scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, order, initial, save_states)
        return y.to(u.dtype), last, states
    kind = state_dtype(u)
    u_, delta, A, B, C = (x.to(kind) for x in (u, delta, A, B, C))
    D, z, delta_bias, initial = (None if x is None else x.to(kind) for x in (D, z, delta_bias, initial))
    y, last = reference.scan(u_, delta, A, B, C, D, z, delta_bias, delta_softplus, order, initial)
    return y.to(u.dtype), last.clone(), last.new_empty(u.shape[0], 0, A.shape[1], u.shape[2])


@selective_scan_op.register_fake
def _(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    order: Tensor | None,
    initial: Tensor | None,
    delta_softplus: bool,
    backend: str,
    save_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, num_steps, num_channels = u.shape
    num_states = A.shape[1]
    num_saved = -(-num_steps // cpu.CHUNK) if backend == "numba" and save_states else 0
    kind = state_dtype(u)
    return (
        u.new_empty(u.shape),
        u.new_empty((batch, num_channels, num_states), dtype=kind),
        u.new_empty((batch, num_saved, num_states, num_channels), dtype=kind),
    )


@torch.library.custom_op("dehaze_bench::selective_scan_backward", mutates_args=())
def selective_scan_backward_op(
    dy: Tensor | None,
    dlast: Tensor | None,
    states: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    order: Tensor | None,
    initial: Tensor | None,
    delta_softplus: bool,
    backend: str,
) -> list[Tensor]:
    """Return the gradients in the order of `GRADIENTS`; those of absent inputs are empty."""
    inputs = (u, delta, A, B, C, D, z, delta_bias, initial)
    kind = state_dtype(u)
    dy = torch.zeros_like(u) if dy is None else dy
    dlast = u.new_zeros((u.shape[0], u.shape[2], A.shape[1]), dtype=kind) if dlast is None else dlast
    if backend == "numba":
        if states.shape[1] == 0:  # the forward pass ran where no gradient was expected
            states = cpu.scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, order, initial, True)[2]
        found = cpu.scan_backward(dy, dlast, states, u, delta, A, B, C, D, z, delta_bias, delta_softplus, order)
    else:
        dy, dlast, u_, delta, A, B, C = (x.to(kind) for x in (dy, dlast, u, delta, A, B, C))
        D, z, delta_bias, initial = (None if x is None else x.to(kind) for x in (D, z, delta_bias, initial))
        found = reference.scan_backward(dy, dlast, u_, delta, A, B, C, D, z, delta_bias, delta_softplus, order, initial)
    return [u.new_empty(0) if x is None else found[name].to(x.dtype) for name, x in zip(GRADIENTS, inputs, strict=True)]


@selective_scan_backward_op.register_fake
def _(
    dy: Tensor | None,
    dlast: Tensor | None,
    states: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    order: Tensor | None,
    initial: Tensor | None,
    delta_softplus: bool,
    backend: str,
) -> list[Tensor]:
    inputs = (u, delta, A, B, C, D, z, delta_bias, initial)
    return [u.new_empty(0) if x is None else x.new_empty(x.shape) for x in inputs]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, delta_softplus, backend, _ = inputs
    ctx.save_for_backward(output[2], *tensors)
    ctx.delta_softplus, ctx.backend = delta_softplus, backend
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, dy: Tensor | None, dlast: Tensor | None, dstates: None) -> tuple[Tensor | None, ...]:
    states, *tensors = ctx.saved_tensors
    found = dict(
        zip(
            GRADIENTS,
            selective_scan_backward_op(dy, dlast, states, *tensors, ctx.delta_softplus, ctx.backend),
            strict=True,
        )
    )
    names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "order", "initial")
    given = dict(zip(names, tensors, strict=True))
    gradients = [None if given[name] is None else found.get(name) for name in names]
    return (*gradients, None, None, None)


selective_scan_op.register_autograd(_backward, setup_context=_setup)
for _device in ("cpu", "cuda"):
    selective_scan_op.register_autocast(_device, torch.float32)


@register_flop_formula(torch.ops.dehaze_bench.selective_scan)
def _forward_operations(u: Any, delta: Any, A: Any, *rest: Any, **options: Any) -> int:
    batch, num_steps, num_channels = u
    return int(OPERATIONS_PER_STATE * batch * num_steps * num_channels * A[1])


@register_flop_formula(torch.ops.dehaze_bench.selective_scan_backward)
def _backward_operations(
    dy: Any, dlast: Any, states: Any, u: Any, delta: Any, A: Any, *rest: Any, **options: Any
) -> int:
    return 2 * _forward_operations(u, delta, A)


def state_dtype(x: Tensor) -> torch.dtype:
    """States are float32, or float64 where the data are."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32

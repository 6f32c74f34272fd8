"""The custom op `dehaze_bench::selective_scan`: traceable, countable, with its backward pass as a second op.

Shapes: B batch, L tokens, K routes, S steps of a route (L without an index), D channels, G groups, N states.

FLOPs by the field's convention for this operator: 9 B S D N operations forward for each route (the figure that VMamba's
tables add, as it stands, to the multiply-accumulates of the dense layers; the skip and the gate are left out), twice
that backward.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from dehaze_bench.ops.order import check_index, check_order
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
    index: Tensor | None,
    initial: Tensor | None,
    delta_softplus: bool,
    merged: bool,
    each_once: bool,
    backend: str,
    save_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y in u's dtype, the last states, and what the backward pass starts from.

    The shapes are those of `selective_scan_routes`; `each_once` refuses an index that is no permutation.
    """
    if index is not None:
        if each_once:
            check_order(index.flatten(), u.shape[1])
        check_index(index, u.shape[1])
    if backend == "reference":
        kind = state_dtype(u)
        u_, delta, A, B, C = (x.to(kind) for x in (u, delta, A, B, C))
        D, z, delta_bias, initial = (None if x is None else x.to(kind) for x in (D, z, delta_bias, initial))
        y, last = reference.scan(u_, delta, A, B, C, D, z, delta_bias, delta_softplus, index, initial, merged)
        return y.to(u.dtype), last.clone(), last.new_empty(0)
    scan = _twin(backend).scan
    y, last, states = scan(
        u, delta, A, B, C, D, z, delta_bias, delta_softplus, index, initial, merged, save_states
    )  # fmt: skip
    return y.to(u.dtype), last, states


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
    index: Tensor | None,
    initial: Tensor | None,
    delta_softplus: bool,
    merged: bool,
    each_once: bool,
    backend: str,
    save_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, num_tokens, num_channels = u.shape
    num_routes, _, num_states = A.shape
    num_steps = num_tokens if index is None else index.shape[1]
    saved: tuple[int, ...] = (0,)
    if save_states and backend != "reference":
        saved = _twin(backend).states_shape(batch, num_routes, num_steps, num_channels, num_states)
    kind = state_dtype(u)
    return (
        u.new_empty(u.shape if merged else (batch, num_tokens, num_routes, num_channels)),
        u.new_empty((batch, num_routes, num_channels, num_states), dtype=kind),
        u.new_empty(saved, dtype=kind),
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
    index: Tensor | None,
    initial: Tensor | None,
    delta_softplus: bool,
    merged: bool,
    backend: str,
) -> list[Tensor]:
    """Return the gradients in the order of `GRADIENTS`; those of absent inputs are empty."""
    inputs = (u, delta, A, B, C, D, z, delta_bias, initial)
    batch, num_routes, num_channels = u.shape[0], A.shape[0], u.shape[2]
    kind = state_dtype(u)
    if dy is None:
        dy = u.new_zeros(u.shape if merged else delta.shape)
    if dlast is None:
        dlast = u.new_zeros((batch, num_routes, num_channels, A.shape[2]), dtype=kind)
    if backend == "reference":
        dy, dlast, u_, delta, A, B, C = (x.to(kind) for x in (dy, dlast, u, delta, A, B, C))
        D, z, delta_bias, initial = (None if x is None else x.to(kind) for x in (D, z, delta_bias, initial))
        found = reference.scan_backward(
            dy, dlast, u_, delta, A, B, C, D, z, delta_bias, delta_softplus, index, initial, merged
        )  # fmt: skip
    else:
        twin = _twin(backend)
        if states.numel() == 0:  # the forward pass ran where no gradient was expected
            states = twin.scan(
                u, delta, A, B, C, D, z, delta_bias, delta_softplus, index, initial, merged, True
            )[2]  # fmt: skip
        found = twin.scan_backward(
            dy, dlast, states, u, delta, A, B, C, D, z, delta_bias, delta_softplus, index, merged
        )  # fmt: skip
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
    index: Tensor | None,
    initial: Tensor | None,
    delta_softplus: bool,
    merged: bool,
    backend: str,
) -> list[Tensor]:
    inputs = (u, delta, A, B, C, D, z, delta_bias, initial)
    return [u.new_empty(0) if x is None else x.new_empty(x.shape) for x in inputs]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, delta_softplus, merged, _, backend, _ = inputs
    ctx.save_for_backward(output[2], *tensors)
    ctx.options = (delta_softplus, merged, backend)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, dy: Tensor | None, dlast: Tensor | None, dstates: None) -> tuple[Tensor | None, ...]:
    states, *tensors = ctx.saved_tensors
    found = dict(zip(GRADIENTS, selective_scan_backward_op(dy, dlast, states, *tensors, *ctx.options), strict=True))
    names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "index", "initial")
    given = dict(zip(names, tensors, strict=True))
    gradients = [None if given[name] is None else found.get(name) for name in names]
    return (*gradients, None, None, None, None, None)


selective_scan_op.register_autograd(_backward, setup_context=_setup)
for _device in ("cpu", "cuda"):
    selective_scan_op.register_autocast(_device, torch.float32)


@register_flop_formula(torch.ops.dehaze_bench.selective_scan)
def _forward_operations(
    u: Any, delta: Any, A: Any, B: Any, C: Any, D: Any, z: Any, delta_bias: Any, index: Any, *rest: Any, **options: Any
) -> int:
    batch, num_tokens, num_channels = u
    num_routes, _, num_states = A
    num_steps = num_tokens if index is None else index[1]
    return int(OPERATIONS_PER_STATE * batch * num_routes * num_steps * num_channels * num_states)


@register_flop_formula(torch.ops.dehaze_bench.selective_scan_backward)
def _backward_operations(dy: Any, dlast: Any, states: Any, *inputs: Any, **options: Any) -> int:
    return 2 * _forward_operations(*inputs)


def state_dtype(x: Tensor) -> torch.dtype:
    """States are float32, or float64 where the data are."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _twin(backend: str) -> ModuleType:
    """The module of a fast backend; see `cpu` for what all of them offer."""
    if backend == "numba":
        return cpu
    if backend == "triton":
        from dehaze_bench.ops.selective_scan import gpu

        return gpu
    from dehaze_bench.ops.selective_scan import vendor

    return vendor

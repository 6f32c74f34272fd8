"""The custom op `dehaze_bench::ssd`: traceable, countable, with its backward pass as a second op.

FLOPs are those of the recurrence, whichever form runs: 5 B L H P N operations forward (decay, drive, readout: the
figure that Vim's tables take per state of a selective scan; the skip and the gate are left out), twice that backward.
The quadratic part inside chunks is not counted: it depends on the length of a chunk, which is a matter of speed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from dehaze_bench.ops.order import check_order
from dehaze_bench.ops.ssd import chunked, chunked_backward, cpu, reference

OPERATIONS_PER_STATE = 5

GRADIENTS = ("x", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial")


@torch.library.custom_op("dehaze_bench::ssd", mutates_args=())
def ssd_op(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    order: Tensor | None,
    initial: Tensor | None,
    dt_softplus: bool,
    dt_min: float,
    dt_max: float,
    chunk: int,
    backend: str,
    save_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y in x's dtype, the last state, and the chunk states that the backward pass starts from."""
    check_order(order, x.shape[1])
    kind = state_dtype(x)
    x_, dt, A, B, C = (v.to(kind) for v in (x, dt, A, B, C))
    D, z, dt_bias, initial = (None if v is None else v.to(kind) for v in (D, z, dt_bias, initial))
    limit = (dt_min, dt_max)
    if backend == "reference":
        y, last = reference.scan(x_, dt, A, B, C, D, z, dt_bias, dt_softplus, limit, order, initial)
        return y.to(x.dtype), last.clone(), last.new_empty(x.shape[0], 0, *last.shape[1:])
    scan = cpu.scan if backend == "numba" else chunked.scan
    y, last, states = scan(x_, dt, A, B, C, D, z, dt_bias, dt_softplus, limit, order, initial, chunk, save_states)
    return y.to(x.dtype), last, states


@ssd_op.register_fake
def _(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    order: Tensor | None,
    initial: Tensor | None,
    dt_softplus: bool,
    dt_min: float,
    dt_max: float,
    chunk: int,
    backend: str,
    save_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, num_tokens, num_heads, num_channels = x.shape
    kind, state = state_dtype(x), (num_heads, num_channels, B.shape[3])
    saved: tuple[int, ...] = (batch, chunked.count_chunks(num_tokens, chunk), *state)
    if backend == "numba":
        saved = cpu.states_shape(batch, num_tokens, *state, chunk)
    if not save_states or backend == "reference":
        saved = (batch, 0, *saved[2:])
    return (
        x.new_empty(x.shape),
        x.new_empty((batch, *state), dtype=kind),
        x.new_empty(saved, dtype=kind),
    )


@torch.library.custom_op("dehaze_bench::ssd_backward", mutates_args=())
def ssd_backward_op(
    dy: Tensor | None,
    dlast: Tensor | None,
    states: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    order: Tensor | None,
    initial: Tensor | None,
    dt_softplus: bool,
    dt_min: float,
    dt_max: float,
    chunk: int,
    backend: str,
) -> list[Tensor]:
    """Return the gradients in the order of `GRADIENTS`; those of absent inputs are empty."""
    given = (x, dt, A, B, C, D, z, dt_bias, initial)
    kind = state_dtype(x)
    dy = torch.zeros_like(x) if dy is None else dy
    dlast = x.new_zeros((x.shape[0], *x.shape[2:], B.shape[3]), dtype=kind) if dlast is None else dlast
    dy, x_, dt, A, B, C = (v.to(kind) for v in (dy, x, dt, A, B, C))
    D, z, dt_bias, initial = (None if v is None else v.to(kind) for v in (D, z, dt_bias, initial))
    inputs = (x_, dt, A, B, C, D, z, dt_bias, dt_softplus, (dt_min, dt_max), order)
    if backend == "reference":
        found = reference.scan_backward(dy, dlast, *inputs, initial)
    else:
        scan, scan_backward = (
            (cpu.scan, cpu.scan_backward) if backend == "numba" else (chunked.scan, chunked_backward.scan_backward)
        )
        if states.shape[1] == 0:  # the forward pass ran where no gradient was expected
            states = scan(*inputs, initial, chunk, True)[2]
        found = scan_backward(dy, dlast, states, *inputs, chunk)
    return [
        x.new_empty(0) if v is None else found[name].to(v.dtype).contiguous()
        for name, v in zip(GRADIENTS, given, strict=True)
    ]


@ssd_backward_op.register_fake
def _(
    dy: Tensor | None,
    dlast: Tensor | None,
    states: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    order: Tensor | None,
    initial: Tensor | None,
    dt_softplus: bool,
    dt_min: float,
    dt_max: float,
    chunk: int,
    backend: str,
) -> list[Tensor]:
    given = (x, dt, A, B, C, D, z, dt_bias, initial)
    return [x.new_empty(0) if v is None else v.new_empty(v.shape) for v in given]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[2], *inputs[:10])
    ctx.settings = inputs[10:15]
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, dy: Tensor | None, dlast: Tensor | None, dstates: None) -> tuple[Tensor | None, ...]:
    states, *tensors = ctx.saved_tensors
    gradients = ssd_backward_op(dy, dlast, states, *tensors, *ctx.settings)
    *rest, dinitial = gradients
    found = [*rest, None, dinitial]  # an order has no gradient
    return (*(None if v is None else g for v, g in zip(tensors, found, strict=True)), *[None] * 6)


ssd_op.register_autograd(_backward, setup_context=_setup)
for _device in ("cpu", "cuda"):
    ssd_op.register_autocast(_device, torch.float32)
    ssd_backward_op.register_autocast(_device, torch.float32)


@register_flop_formula(torch.ops.dehaze_bench.ssd)
def _forward_operations(x: Any, dt: Any, A: Any, B: Any, *rest: Any, **options: Any) -> int:
    batch, num_tokens, num_heads, num_channels = x
    return int(OPERATIONS_PER_STATE * batch * num_tokens * num_heads * num_channels * B[3])


@register_flop_formula(torch.ops.dehaze_bench.ssd_backward)
def _backward_operations(
    dy: Any, dlast: Any, states: Any, x: Any, dt: Any, A: Any, B: Any, *rest: Any, **options: Any
) -> int:
    return 2 * _forward_operations(x, dt, A, B)


def state_dtype(x: Tensor) -> torch.dtype:
    """States are float32, or float64 where the data are."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32

"""The custom op `dehaze_bench::bi_wkv`: traceable, countable, with its backward pass as a second op.

FLOPs by the convention of Vision-RWKV's tables: 29 L C operations forward per item, added as they stand to the
multiply-accumulates of the dense layers; twice that backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from dehaze_bench.ops.order import check_order
from dehaze_bench.ops.wkv import cpu, reference

OPERATIONS_PER_VALUE = 29


@torch.library.custom_op("dehaze_bench::bi_wkv", mutates_args=())
def bi_wkv_op(decay: Tensor, first: Tensor, k: Tensor, v: Tensor, order: Tensor | None, backend: str) -> Tensor:
    """Return y in v's dtype."""
    num_tokens = k.shape[1]
    check_order(order, num_tokens)
    if backend == "numba":
        y = cpu.scan(decay.double() / num_tokens, first.double() / num_tokens, k, v, order)
    else:
        decay, first, k, v_ = (_at_least_float32(x) for x in (decay, first, k, v))
        y = reference.scan(decay / num_tokens, first / num_tokens, k, v_, order)
    return y.to(v.dtype)


@bi_wkv_op.register_fake
def _(decay: Tensor, first: Tensor, k: Tensor, v: Tensor, order: Tensor | None, backend: str) -> Tensor:
    return v.new_empty(v.shape)


@torch.library.custom_op("dehaze_bench::bi_wkv_backward", mutates_args=())
def bi_wkv_backward_op(
    dy: Tensor, decay: Tensor, first: Tensor, k: Tensor, v: Tensor, order: Tensor | None, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of decay, first, k and v."""
    num_tokens = k.shape[1]
    inputs = (decay, first, k, v)
    if backend == "numba":
        w, u = decay.double() / num_tokens, first.double() / num_tokens
        dw, du, dk, dv = cpu.scan_backward(dy, w, u, k, v, order)
    else:
        dy, decay, first, k, v = (_at_least_float32(x) for x in (dy, *inputs))
        dw, du, dk, dv = reference.scan_backward(dy, decay / num_tokens, first / num_tokens, k, v, order)
    found = (dw / num_tokens, du / num_tokens, dk, dv)
    ddecay, dfirst, dk, dv = (g.to(x.dtype) for g, x in zip(found, inputs, strict=True))
    return ddecay, dfirst, dk, dv


@bi_wkv_backward_op.register_fake
def _(
    dy: Tensor, decay: Tensor, first: Tensor, k: Tensor, v: Tensor, order: Tensor | None, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return decay.new_empty(decay.shape), first.new_empty(first.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.backend = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    return (*bi_wkv_backward_op(dy, *ctx.saved_tensors, ctx.backend), None, None)


bi_wkv_op.register_autograd(_backward, setup_context=_setup)
for _device in ("cpu", "cuda"):
    bi_wkv_op.register_autocast(_device, torch.float32)


@register_flop_formula(torch.ops.dehaze_bench.bi_wkv)
def _forward_operations(decay: Any, first: Any, k: Any, *rest: Any, **options: Any) -> int:
    batch, num_tokens, num_channels = k
    return int(OPERATIONS_PER_VALUE * batch * num_tokens * num_channels)


@register_flop_formula(torch.ops.dehaze_bench.bi_wkv_backward)
def _backward_operations(dy: Any, decay: Any, first: Any, k: Any, *rest: Any, **options: Any) -> int:
    return 2 * _forward_operations(decay, first, k)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()

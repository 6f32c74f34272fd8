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
from dehaze_bench.ops.wkv import cpu, published, reference

OPERATIONS_PER_VALUE = 29


@torch.library.custom_op("dehaze_bench::bi_wkv", mutates_args=())
def bi_wkv_op(
    decay: Tensor, first: Tensor, k: Tensor, v: Tensor, order: Tensor | None, backend: str, form: str
) -> Tensor:
    """Return y in v's dtype."""
    num_tokens = k.shape[1]
    check_order(order, num_tokens)
    w, u = decay.double() / num_tokens, first.double() / num_tokens
    if form == "published":
        y = published.scan(w, u, k, v, order)
    elif backend != "reference":
        y = _twin(backend).scan(w, u, k, v, order)
    else:
        kind = torch.promote_types(k.dtype, torch.float32)
        y = reference.scan(w.to(kind), u.to(kind), k.to(kind), v.to(kind), order)
    return y.to(v.dtype)


@bi_wkv_op.register_fake
def _(decay: Tensor, first: Tensor, k: Tensor, v: Tensor, order: Tensor | None, backend: str, form: str) -> Tensor:
    return v.new_empty(v.shape)


@torch.library.custom_op("dehaze_bench::bi_wkv_backward", mutates_args=())
def bi_wkv_backward_op(
    dy: Tensor, decay: Tensor, first: Tensor, k: Tensor, v: Tensor, order: Tensor | None, backend: str, form: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of decay, first, k and v."""
    num_tokens = k.shape[1]
    w, u = decay.double() / num_tokens, first.double() / num_tokens
    if form == "published":
        dw, du, dk, dv = published.scan_backward(dy, w, u, k, v, order)
    elif backend != "reference":
        dw, du, dk, dv = _twin(backend).scan_backward(dy, w, u, k, v, order)
    else:
        kind = torch.promote_types(k.dtype, torch.float32)
        dy, w, u = (x.to(kind) for x in (dy, w, u))
        dw, du, dk, dv = reference.scan_backward(dy, w, u, k.to(kind), v.to(kind), order)
    found = (dw / num_tokens, du / num_tokens, dk, dv)
    ddecay, dfirst, dk, dv = (g.to(x.dtype) for g, x in zip(found, (decay, first, k, v), strict=True))
    return ddecay, dfirst, dk, dv


@bi_wkv_backward_op.register_fake
def _(
    dy: Tensor, decay: Tensor, first: Tensor, k: Tensor, v: Tensor, order: Tensor | None, backend: str, form: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return decay.new_empty(decay.shape), first.new_empty(first.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.backend, ctx.form = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    return (*bi_wkv_backward_op(dy, *ctx.saved_tensors, ctx.backend, ctx.form), None, None, None)


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


def _twin(backend: str) -> Any:
    """Return the module whose `scan` and `scan_backward` take w and u in float64, divided by the number of tokens."""
    if backend == "numba":
        return cpu
    from dehaze_bench.ops.wkv import gpu

    return gpu

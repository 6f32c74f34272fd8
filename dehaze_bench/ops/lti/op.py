"""The custom op `dehaze_bench::lti`: traceable, countable, with its backward pass as a second op.

FLOPs are those of the convolution, whichever backend runs, since torch counts a transform as nothing: 5/2 n log2 n
operations per real transform of n = 2 L points, 3 n per product of two spectra, and 2 L operations per real mode and
channel, 4 L per complex one, for the kernel. Forward: one kernel and its transform per channel, two transforms and a
product per channel and item, whatever the padding to a convenient length. Backward: twice that.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from dehaze_bench.ops.lti import convolution, reference
from dehaze_bench.ops.order import check_order

GRADIENTS = ("u", "dt", "A", "B", "C", "D")


@torch.library.custom_op("dehaze_bench::lti", mutates_args=())
def lti_op(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    order: Tensor | None,
    method: str,
    backend: str,
) -> Tensor:
    """Return y in u's dtype."""
    check_order(order, u.shape[1])
    kind = _state_dtype(u)
    u_, D = u.to(kind), None if D is None else D.to(kind)
    Abar, Bbar, C = _discretise(dt, A, B, C, method)
    if backend == "reference":
        y = reference.scan(u_, _narrow(Abar, kind), _narrow(Bbar, kind), _narrow(C, kind), D, order)
    else:
        y = convolution.scan(u_, Abar, Bbar, C, D, order)
    return y.to(u.dtype)


@lti_op.register_fake
def _(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    order: Tensor | None,
    method: str,
    backend: str,
) -> Tensor:
    return u.new_empty(u.shape)


@torch.library.custom_op("dehaze_bench::lti_backward", mutates_args=())
def lti_backward_op(
    dy: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    order: Tensor | None,
    method: str,
    backend: str,
) -> list[Tensor]:
    """Return the gradients in the order of `GRADIENTS`; that of an absent skip is empty."""
    kind = _state_dtype(u)
    dy, u_, D_ = dy.to(kind), u.to(kind), None if D is None else D.to(kind)
    Abar, Bbar, C_ = _discretise(dt, A, B, C, method)
    if backend == "reference":
        found = reference.scan_backward(dy, u_, _narrow(Abar, kind), _narrow(Bbar, kind), _narrow(C_, kind), D_, order)
    else:
        found = convolution.scan_backward(dy, u_, Abar, Bbar, C_, D_, order)
    found["A"], found["B"], found["dt"] = reference.discretise_backward(
        _widen(found["Abar"]), _widen(found["Bbar"]), _widen(A), _widen(B), _widen(dt), method
    )
    given = (u, dt, A, B, C, D)
    return [u.new_empty(0) if v is None else _like(found[name], v) for name, v in zip(GRADIENTS, given, strict=True)]


@lti_backward_op.register_fake
def _(
    dy: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    order: Tensor | None,
    method: str,
    backend: str,
) -> list[Tensor]:
    return [u.new_empty(0) if v is None else v.new_empty(v.shape) for v in (u, dt, A, B, C, D)]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.method, ctx.backend = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors  # once: activation checkpointing hands them out a single time
    *gradients, dD = lti_backward_op(dy, *tensors, ctx.method, ctx.backend)
    return (*gradients, None if tensors[5] is None else dD, None, None, None)


lti_op.register_autograd(_backward, setup_context=_setup)
for _device in ("cpu", "cuda"):
    lti_op.register_autocast(_device, torch.float32)
    lti_backward_op.register_autocast(_device, torch.float32)


@register_flop_formula(torch.ops.dehaze_bench.lti, get_raw=True)
def _forward_operations(u: Any, dt: Any, A: Any, *rest: Any, **options: Any) -> int:
    batch, num_tokens, num_channels = u.shape
    num_points = 2 * num_tokens
    transform = 2.5 * num_points * math.log2(num_points)
    modes = num_tokens * A.shape[1] * (4 if A.is_complex() else 2)
    return int(num_channels * (modes + transform + batch * (2 * transform + 3 * num_points)))


@register_flop_formula(torch.ops.dehaze_bench.lti_backward, get_raw=True)
def _backward_operations(dy: Any, u: Any, dt: Any, A: Any, *rest: Any, **options: Any) -> int:
    return 2 * _forward_operations(u, dt, A)


def _discretise(dt: Tensor, A: Tensor, B: Tensor, C: Tensor, method: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return Abar, Bbar and C in double precision: D * N numbers, taken to powers of up to L."""
    return *reference.discretise(_widen(A), _widen(B), _widen(dt), method), _widen(C)


def _widen(x: Tensor) -> Tensor:
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def _narrow(x: Tensor, kind: torch.dtype) -> Tensor:
    return x.to(kind.to_complex() if x.is_complex() else kind)


def _like(gradient: Tensor, x: Tensor) -> Tensor:
    """Return the gradient in x's dtype; a real input beside complex ones sees the real part."""
    return (gradient if x.is_complex() else reference.real(gradient)).to(x.dtype).contiguous()


def _state_dtype(x: Tensor) -> torch.dtype:
    """States are float32, or float64 where the data are."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32

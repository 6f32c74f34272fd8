"""Bi-WKV, the bidirectional linear attention of Vision-RWKV, along any order of the tokens, in linear time.

Shapes: B batch, L tokens, C channels.
"""

from __future__ import annotations

from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.ops.backends import available_backends, choose_backend
from dehaze_bench.ops.order import check_order_type
from dehaze_bench.ops.wkv.op import bi_wkv_op

__all__ = ["available_backends", "bi_wkv"]


def bi_wkv(
    spatial_decay_C: Tensor,
    spatial_first_C: Tensor,
    k_BLC: Tensor,
    v_BLC: Tensor,
    order_L: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Average v with weights exp(-(|t - i| - 1) decay / L + k_i), and exp(first / L + k_t) for the token itself.

    The paper's formula (arXiv 2403.02308, equation 3), not the released CUDA kernel, which deviates from it. Decay and
    bonus are divided by the number of tokens here; the decay may be negative. |t - i| counts steps along `order_L`
    (int64, a permutation; None is raster). y has v's dtype; under autocast the op runs in float32. Differentiable once,
    in all four tensors. Raises `UsageError` for shapes that do not fit, an order that is no permutation, and a bad
    backend.
    """
    if k_BLC.ndim != 3 or k_BLC.numel() == 0:
        raise UsageError(f"k must be (batch, tokens, channels) and not empty, not {tuple(k_BLC.shape)}")
    _, num_tokens, num_channels = k_BLC.shape
    for name, tensor, shape in (
        ("spatial_decay", spatial_decay_C, (num_channels,)),
        ("spatial_first", spatial_first_C, (num_channels,)),
        ("v", v_BLC, tuple(k_BLC.shape)),
    ):
        if tuple(tensor.shape) != shape:
            raise UsageError(f"{name} must be {shape} for k {tuple(k_BLC.shape)}, not {tuple(tensor.shape)}")
        if tensor.device != k_BLC.device:
            raise UsageError(f"{name} is on {tensor.device} but k on {k_BLC.device}: move one of them")
    check_order_type(order_L, num_tokens, k_BLC.device)
    return bi_wkv_op(spatial_decay_C, spatial_first_C, k_BLC, v_BLC, order_L, choose_backend(backend, k_BLC))

"""Bi-WKV, the bidirectional linear attention of Vision-RWKV, along any order of the tokens, in linear time.

Shapes: B batch, L tokens, C channels.
"""

from __future__ import annotations

from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.ops.backends import backend_status, choose_backend
from dehaze_bench.ops.order import check_order_type
from dehaze_bench.ops.wkv.op import bi_wkv_op

__all__ = ["available_backends", "bi_wkv"]

BACKENDS = ("reference", "numba", "triton")
FORMS = ("paper", "published")


def bi_wkv(
    spatial_decay_C: Tensor,
    spatial_first_C: Tensor,
    k_BLC: Tensor,
    v_BLC: Tensor,
    order_L: Tensor | None = None,
    backend: str = "auto",
    form: str = "paper",
) -> Tensor:
    """Average v with weights exp(-(|t - i| - 1) decay / L + k_i), and exp(first / L + k_t) for the token itself.

    The paper's formula (arXiv 2403.02308, equation 3). The released CUDA kernel deviates from it; `form="published"`
    evaluates what that kernel does (see `published.py`), for its checkpoints, in plain torch. Decay and bonus are
    divided by the number of tokens here; the decay may be negative. |t - i| counts steps along `order_L` (int64, a
    permutation; None is raster). y has v's dtype; under autocast the op runs in float32. Differentiable once, in all
    four tensors. Raises `UsageError` for shapes that do not fit, an order that is no permutation, a bad backend or
    form, and published weights that span more than exp(500).
    """
    if form not in FORMS:
        raise UsageError(f"no form '{form}' of bi-WKV. {nearest(form, FORMS)}")
    if form == "published" and backend not in ("auto", "reference"):
        raise UsageError(f"form='published' has no '{backend}' twin: use backend='auto', or form='paper'")
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
    backend = choose_backend("reference" if form == "published" else backend, k_BLC, BACKENDS)
    return bi_wkv_op(spatial_decay_C, spatial_first_C, k_BLC, v_BLC, order_L, backend, form)


def available_backends() -> dict[str, str]:
    """Return name -> "ok" or why not."""
    return {name: backend_status(name) for name in BACKENDS}

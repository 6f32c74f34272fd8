"""What the operators ask of an order of tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from dehaze_bench.errors import UsageError


def check_order_type(order_L: Tensor | None, num_tokens: int, device: torch.device) -> None:
    """Check what can be told without reading the order: on any device, also while tracing."""
    if order_L is None:
        return
    if tuple(order_L.shape) != (num_tokens,):
        raise UsageError(f"order must be ({num_tokens},), one entry per token, not {tuple(order_L.shape)}")
    if order_L.dtype != torch.int64:
        raise UsageError(f"order must be int64, not {order_L.dtype}: use order.long()")
    if order_L.device != device:
        raise UsageError(f"order is on {order_L.device} but the data on {device}: move one of them")


def check_order(order_L: Tensor | None, num_tokens: int) -> None:
    """Refuse an order that is not a permutation: a kernel would read and write outside its tensors."""
    if order_L is None:
        return
    inside = bool(((order_L >= 0) & (order_L < num_tokens)).all())
    if not inside or bool((torch.bincount(order_L, minlength=num_tokens) != 1).any()):
        raise UsageError(
            f"order must visit each of the {num_tokens} tokens once: gather the tokens of a route that skips, "
            "repeats or pads before the scan"
        )

"""What the operators ask of an order of tokens, and of an index of routes over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from dehaze_bench.errors import UsageError

PADDING = -1  # the id of a step that reads zeros and writes nothing

_Fact = TypeVar("_Fact")
_known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # tensor -> its version and what was read of it


def check_order_type(order_L: Tensor | None, num_tokens: int, device: torch.device) -> None:
    """Check what can be told without reading the order: on any device, also while tracing."""
    if order_L is None:
        return
    if tuple(order_L.shape) != (num_tokens,):
        raise UsageError(f"order must be ({num_tokens},), one entry per token, not {tuple(order_L.shape)}")
    _check_dtype_and_device("order", order_L, device)


def check_index_type(index_KS: Tensor | None, num_routes: int, device: torch.device) -> None:
    """As `check_order_type` for the token ids of K routes of S steps each, S at will."""
    if index_KS is None:
        return
    if index_KS.ndim != 2 or index_KS.shape[0] != num_routes or index_KS.shape[1] == 0:
        raise UsageError(f"index must be ({num_routes}, steps), one row per route, not {tuple(index_KS.shape)}")
    _check_dtype_and_device("index", index_KS, device)


def check_order(order_L: Tensor | None, num_tokens: int) -> None:
    """Refuse an order that is not a permutation: a kernel would read and write outside its tensors."""
    if order_L is not None and not are_permutations(order_L, num_tokens)[0]:
        raise UsageError(
            f"order must visit each of the {num_tokens} tokens once: gather the tokens of a route that skips, "
            "repeats or pads before the scan"
        )


def check_index(index_KS: Tensor | None, num_tokens: int) -> None:
    """Refuse token ids outside -1 .. num_tokens - 1."""
    if index_KS is None:
        return
    lowest, highest = _range(index_KS)
    if lowest < PADDING or highest >= num_tokens:
        raise UsageError(
            f"index holds ids from {lowest} to {highest}: those of {num_tokens} tokens are 0 to {num_tokens - 1}, "
            f"and {PADDING} is padding"
        )


def are_permutations(index: Tensor | None, num_tokens: int) -> list[bool]:
    """Return, per row of an index or for an order, whether it visits each token once; None does."""

    def is_whole(row: Tensor) -> bool:
        if row.device.type == "cpu":
            return bool((np.bincount(row.numpy(), minlength=num_tokens) == 1).all())
        seen = torch.zeros(num_tokens, dtype=torch.bool, device=row.device)
        seen[row] = True
        return bool(seen.all())

    def read(index: Tensor) -> list[bool]:
        rows = index if index.ndim == 2 else index.unsqueeze(0)
        lowest, highest = _range(index)
        inside = lowest >= 0 and highest < num_tokens and rows.shape[1] == num_tokens
        return [inside and is_whole(row) for row in rows]

    return [True] if index is None else _remember(index, f"permutations of {num_tokens}", read)


def _range(index: Tensor) -> tuple[int, int]:
    """Return the smallest and the largest id."""

    def read(index: Tensor) -> tuple[int, int]:
        if index.device.type == "cpu":
            # In NumPy: torch would wake its threads, which then spin on the cores that a kernel needs next.
            return int(index.numpy().min()), int(index.numpy().max())
        lowest, highest = index.aminmax()
        return int(lowest), int(highest)

    return _remember(index, "range", read)


def _remember(index: Tensor, fact: str, read: Callable[[Tensor], _Fact]) -> _Fact:
    """Read once off the CPU, where it would wait for the device, as long as the tensor is not written to."""
    if index.device.type == "cpu" or index.is_inference():
        return read(index)
    version, facts = _known.get(index, (-1, {}))
    if version != index._version:
        facts = {}
        _known[index] = (index._version, facts)
    if fact not in facts:
        facts[fact] = read(index)
    return cast(_Fact, facts[fact])


def _check_dtype_and_device(name: str, index: Tensor, device: torch.device) -> None:
    if index.dtype != torch.int64:
        raise UsageError(f"{name} must be int64, not {index.dtype}: use {name}.long()")
    if index.device != device:
        raise UsageError(f"{name} is on {index.device} but the data on {device}: move one of them")

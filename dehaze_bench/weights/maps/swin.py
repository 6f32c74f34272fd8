"""microsoft/Swin-Transformer: the names are ours; masks and position indices are computed."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def map_swin(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop what is computed from the size."""
    computed = (".relative_position_index", ".attn_mask")
    return {name: tensor for name, tensor in published.items() if not name.endswith(computed)}

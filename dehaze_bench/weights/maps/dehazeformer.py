"""IDKiro/DehazeFormer."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.levels import map_levels

PARTS = {r"attn\.V": "attn.v", r"attn\.QK": "attn.qk", r"mlp\.mlp": "ffn"}


def map_dehazeformer(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Lower case in the attention, one MLP less deep."""
    return map_levels(published, PARTS)

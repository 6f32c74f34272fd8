"""2697166190a-beep/ED-Former."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.levels import map_levels

PARTS = {r"attn\.V": "attn.v", r"attn\.QK": "attn.qk", r"attention_gate\.conv_se": "gate"}


def map_edformer(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Lower case in the attention, a shorter name for the gate."""
    return map_levels(published, PARTS)

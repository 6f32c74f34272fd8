"""KyanChen/RSMamba."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.branches import place_tokens
from dehaze_bench.weights.maps.vmamba import rename

RULES = (
    (r"^backbone\.", ""),
    (r"^head\.fc\.", "head."),
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^layers\.(\d+)\.", r"layers.\1.mixer."),
    (r"^gate_layers\.(\d+)\.0\.", r"layers.\1.merge.weigh."),
)


def map_rsmamba(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Layers and their gates together; mmpretrain's names of backbone and head."""
    return place_tokens(rename(published, RULES))

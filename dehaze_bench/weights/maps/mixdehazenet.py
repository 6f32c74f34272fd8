"""AmeryXiong/MixDehazeNet."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.levels import map_levels

PARTS = {
    r"conv3_19": "large.0",
    r"conv3_13": "large.1",
    r"conv3_7": "large.2",
    r"Wv": "value",
    r"Wg\.1": "value_gate",
    r"ca\.1": "channel_gate.0",
    r"ca\.3": "channel_gate.2",
    r"pa": "pixel_gate",
}


def map_mixdehazenet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Large kernels in a list, attentions by their names."""
    return map_levels(published, PARTS)

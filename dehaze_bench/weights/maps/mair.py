"""XLearning-SCU/2025-CVPR-MaIR, the U-shaped builds."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.four_levels import map_four_levels

RULES = ((r"\.gating\.gating\.1\.", ".merge."),)


def map_mair(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sequence shuffle attention is published as a grouped convolution, a group for each channel."""
    ours = map_four_levels(published, *RULES)
    for name in [name for name in ours if name.endswith(".merge.weight")]:
        bias = name.replace("weight", "bias")
        num_routes = ours[name].shape[1]
        ours[name] = ours[name].flatten(1).unflatten(0, (-1, num_routes))
        if bias in ours:
            ours[bias] = ours[bias].unflatten(0, (-1, num_routes))
    return ours

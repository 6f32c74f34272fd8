"""MingTian99/RSDformer."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.four_levels import map_four_levels

RULES = (
    (r"^reduce_chan_level2\.", "unused."),
    (r"\.ffn\.norm\.", ".ffn.unused."),
    (r"\.DFEB\.net\.", ".detail."),
    (r"\.theta_(phi|rho|eta)\.bottleneckBlock\.(\d)(\.body)?\.", r".\1.\2."),
    (r"\.shffleconv\.", ".shuffle."),
    (r"\.dynamices_filters\.", "."),
    (r"^DGFB1\.w$", "gate_level2.weight"),
    (r"^DGFB2\.w$", "gate_level1.weight"),
)


def map_rsdformer(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Wrappers go, the gates are named by their level, and what the network never uses is called so."""
    return map_four_levels(published, *RULES)

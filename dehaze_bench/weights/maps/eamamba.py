"""daidaijr/EAMamba."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.four_levels import map_four_levels

RULES = ((r"\.mamba\.", ".attn."), (r"\.attn\.conv\.", ".attn.conv2d."))


def map_eamamba(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mixer of a block and its convolution have other names here."""
    return map_four_levels(published, *RULES)

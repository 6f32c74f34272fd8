"""swz30/Restormer."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.four_levels import map_four_levels


def map_restormer(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names are those of the skeleton."""
    return map_four_levels(published)

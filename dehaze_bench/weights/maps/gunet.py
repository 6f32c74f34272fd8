"""IDKiro/gUNet."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.levels import map_levels

PARTS = {r"Wv": "value", r"Wg\.0": "gate"}


def map_gunet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Value and gate of a block by their names."""
    return map_levels(published, PARTS)

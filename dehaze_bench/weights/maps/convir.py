"""c-yn/ConvIR."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.mimo import rename_all


def map_convir(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names of the skeleton."""
    return rename_all(published)

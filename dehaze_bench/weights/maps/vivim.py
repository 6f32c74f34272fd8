"""scott-yjyang/Vivim, the layer."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.branches import stack_branches
from dehaze_bench.weights.maps.vmamba import rename


def map_vivim(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The branches side by side, the depthwise convolution without its shell."""
    return stack_branches(rename(published, ((r"\.dwconv\.dwconv\.", ".dwconv."),)))

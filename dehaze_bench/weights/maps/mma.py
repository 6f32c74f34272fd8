"""ArsenalCheng/MMA."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.branches import stack_branches
from dehaze_bench.weights.maps.mambair import CHANNELS
from dehaze_bench.weights.maps.vmamba import rename

OURS = (
    (r"^((module|net_g)\.)+", ""),
    (r"\.norm([12])\.body\.", r".norm\1."),
    (r"\.attn\.mamba\.mamba\.", ".mixer."),
    (r"\.attn\.channel_attention\.", ".channel_attention."),
)


def map_mma(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Norms and mixers without their shells, the branches of a mixer side by side."""
    return stack_branches(rename(published, (*OURS, *CHANNELS)))

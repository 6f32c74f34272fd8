"""jacklishufan/Mamba-ND, the networks over pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.branches import place_tokens, stack_branches
from dehaze_bench.weights.maps.vmamba import rename

RULES = (
    (r"^backbone\.", ""),
    (r"^head\.fc\.", "head."),
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^layers\.(\d+)\.down_sample_layer\.", r"merging.\1."),
)


def map_mamba_nd(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """mmpretrain's names; its merging puts the neighbours of a channel side by side, ours the channels of each."""
    renamed = stack_branches(place_tokens(rename(published, RULES)))
    return {
        name: _by_neighbour(tensor) if re.match(r"merging\.\d+\.(norm|reduction)\.", name) else tensor
        for name, tensor in renamed.items()
    }


def _by_neighbour(tensor: Tensor) -> Tensor:
    """Return the last axis, (channel, row, column), as (column, row, channel)."""
    parts = tensor.unflatten(-1, (-1, 2, 2))
    return parts.transpose(-3, -1).flatten(-3)

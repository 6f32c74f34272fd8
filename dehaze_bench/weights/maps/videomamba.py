"""OpenGVLab/VideoMamba, over pictures and over videos."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.branches import place_tokens, stack_branches


def map_videomamba(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The branches side by side; patches of one frame lose their axis of time."""
    ours = stack_branches(place_tokens(published))
    name = "tokens.patch_embed.proj.weight"
    if name in ours and ours[name].ndim == 5 and ours[name].shape[2] == 1:
        ours[name] = ours[name][:, :, 0]
    return ours

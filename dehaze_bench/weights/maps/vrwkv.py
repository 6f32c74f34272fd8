"""OpenGVLab/Vision-RWKV."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_RENAMED = (
    (r"^backbone\.", ""),
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^head\.fc\.", "head."),
    # The two-layer head of the largest size.
    (r"^head\.layers\.pre_logits\.", "head.0."),
    (r"^head\.layers\.head\.", "head.2."),
)


def map_vrwkv(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Shorten names; decay and bonus get an axis for routes, shares lose their two of length one."""
    found = {}
    for name, tensor in published.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if name.endswith(("spatial_decay", "spatial_first")) and tensor.ndim == 1:
            tensor = tensor[None]
        elif "spatial_mix_" in name and tensor.ndim == 3:
            tensor = tensor[0, 0]
        found[name] = tensor
    return found

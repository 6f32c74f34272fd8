"""MingTian99/RSDformer."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

RULES = (
    (r"^module\.", ""),
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"^reduce_chan_level2\.", "unused."),
    (r"\.ffn\.norm\.body\.", ".ffn.unused."),
    (r"\.body\.(weight|bias)$", r".\1"),
    (r"\.DFEB\.net\.", ".detail."),
    (r"\.theta_(phi|rho|eta)\.bottleneckBlock\.", r".\1."),
    (r"\.shffleconv\.", ".shuffle."),
    (r"\.dynamices_filters\.", "."),
    (r"^DGFB1\.w$", "gate_level2.weight"),
    (r"^DGFB2\.w$", "gate_level1.weight"),
)


def map_rsdformer(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The wrappers of embedding, norms and bottlenecks go; gates are named by their level; unused tensors are marked."""
    ours = {}
    for name, tensor in published.items():
        for pattern, replacement in RULES:
            name = re.sub(pattern, replacement, name)
        ours[name] = tensor
    return ours

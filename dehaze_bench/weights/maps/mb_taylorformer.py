"""FVL2020/ICCV-2023-MB-TaylorFormer."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_RENAMED = (
    # The embeddings of a level are a module of their own there.
    (r"^patch_embed_(\w+)\.patch_embeds\.(\d+)\.patch_conv\.", r"\1.embeds.\2."),
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"\.mhca_blks\.(\d+)\.MHCA_layers\.", r".paths.\1."),
    (r"\.attn\.refine_att\.conv_list\.", ".attn.refine."),
    (r"\.norm([12])\.body\.", r".norm\1."),
    (r"^(down|up)(\d_\d)\.body\.", r"\1\2."),
    (r"^(reduce_chan_level\d)\.0\.", r"\1."),
    (r"^output\.0\.", "to_image."),
)


def map_mb_taylorformer(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Wrappers fall away; a level holds its embeddings."""
    found = {}
    for name, tensor in published.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        found[name] = tensor
    return found

"""ZhendongWang6/Uformer."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

STAGES = {"conv": 4} | {f"encoderlayer_{i}": i for i in range(4)} | {f"decoderlayer_{i}": 5 + i for i in range(4)}
RENAMED = (
    (r"^input_proj\.proj\.0\.", "input_proj.0."),
    (r"^output_proj\.proj\.0\.", "output_proj."),
    (r"^dowsample_(\d)\.conv\.0\.", r"downs.\1."),
    (r"^upsample_(\d)\.deconv\.0\.", r"ups.\1."),
    (r"\.modulator\.weight$", ".modulator"),
    (r"\.mlp\.linear2\.0\.", ".mlp.linear2."),
)


def map_uformer(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stages in one list, queries with keys and values in one map; position indices are computed here."""
    ours = {}
    for published_name, tensor in published.items():
        name = published_name
        if name.endswith(("relative_position_index", "attn_mask")) or ".attn.qkv.to_kv." in name:
            continue
        if ".attn.qkv.to_q." in name and name.replace("to_q", "to_kv") in published:
            tensor = torch.cat([tensor, published[name.replace("to_q", "to_kv")]])
            name = name.replace("qkv.to_q.", "qkv.")
        for pattern, new in RENAMED:
            name = re.sub(pattern, new, name)
        stage, _, rest = name.partition(".blocks.")
        ours[f"stages.{STAGES[stage]}.{rest}" if rest and stage in STAGES else name] = tensor
    return ours

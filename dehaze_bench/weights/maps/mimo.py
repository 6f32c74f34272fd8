"""What the maps of the MIMO family share: names of the skeleton."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

HEADS = {
    "Encoder": "encoder",
    "Decoder": "decoder",
    "Convs": "convs",
    "ConvsOut": "convs_out",
    "FAM1": "fam1",
    "FAM2": "fam2",
    "SCM1": "scm1",
    "SCM2": "scm2",
    "bottelneck": "bottleneck",
}


def rename(name: str) -> str:
    """Return our name of a published tensor or submodule."""
    name = re.sub(r"\.main\.0\.(weight|bias)$", r".conv.\1", name)
    name = re.sub(r"^((?:En|De)coder\.\d)\.layers\b", r"\1", name)
    name = re.sub(r"^(SCM\d)\.main\b", r"\1", name)
    head, dot, rest = name.partition(".")
    return HEADS.get(head, head) + dot + rest


def rename_all(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename every tensor."""
    return {rename(name): tensor for name, tensor in published.items()}

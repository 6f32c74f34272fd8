"""MzeroMiko/VMamba, and what its descendants share with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

# Names of the first release, as its own loader renames them.
OLD = (
    (r"^patch_embed\.proj\.", "patch_embed.0."),
    (r"^patch_embed\.norm\.", "patch_embed.2."),
    (r"\.ln_1\.", ".norm."),
    (r"\.self_attention\.", ".op."),
    (r"^norm\.", "classifier.norm."),
    (r"^head\.", "classifier.head."),
)
OURS = (
    # What belongs to the routes, in a network or alone.
    (r"(^|\.)(x_proj_weight|dt_projs_weight|dt_projs_bias|A_logs|Ds)$", r"\1core.\2"),
    (r"(^|\.)conv2d\.1\.", r"\1conv2d."),  # between two permutations, in the m2 releases
    (r"\.mlp\.", ".ffn."),
)
LINEAR = re.compile(r"(^|\.)(in_proj|out_proj|fc1|fc2)\.weight$")


def map_vmamba(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All releases, whole or an operator alone: old names, and 1x1 convolutions that are linear maps here."""
    return rename_vss(published)


def rename_vss(published: Mapping[str, Tensor], *more: tuple[str, str]) -> dict[str, Tensor]:
    """The names that VMamba shares with its descendants, then the rules of one of them."""
    stripped = rename(published, ((r"^((module|backbone)\.)+", ""),))
    whole = any(name.startswith("patch_embed.") for name in stripped)  # a block may have a `norm` of its own
    renamed = rename(stripped, (*(OLD if whole else ()), *OURS, *more))
    return {
        name: tensor.flatten(1) if LINEAR.search(name) and tensor.ndim == 4 else tensor
        for name, tensor in renamed.items()
    }


def rename(published: Mapping[str, Tensor], rules: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    """Apply each rule, a pattern and its replacement, in turn to every name."""
    found = {}
    for name, tensor in published.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        found[name] = tensor
    return found

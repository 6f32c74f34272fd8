"""What the maps of Vim's descendants share: the branches of a mixer side by side, tokens in a part of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# A tensor of a branch: what it is, and whose. Vim's second branch is "b", SegMamba's third "s"; LocalMamba has numbers.
BRANCH = re.compile(
    r"(?P<where>^|.*\.)(?P<part>A|D|conv1d|x_proj|dt_proj)(?:_(?P<letter>[bs]))?(?P<log>_log)?(?:_(?P<number>\d+))?"
    r"(?P<kind>\.weight|\.bias)?$"
)
OURS = {
    "A_log": "A_log",
    "D": "D",
    "conv1d.weight": "conv1d.weight",
    "conv1d.bias": "conv1d.bias",
    "x_proj.weight": "x_proj",
    "dt_proj.weight": "dt_proj",
    "dt_proj.bias": "dt_bias",
}
TOKENS = ("cls_token", "pos_embed", "patch_embed", "temporal_pos_embed")


def stack_branches(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the tensors of the branches of every mixer side by side, in the order of the branches."""
    found: dict[str, Tensor | dict[int, Tensor]] = {}
    for name, tensor in published.items():
        match = BRANCH.match(name)
        part = "" if match is None else f"{match['part']}{match['log'] or ''}{match['kind'] or ''}"
        if match is None or part not in OURS:
            found[name] = tensor
            continue
        number = int(match["number"] or {"b": 1, "s": 2}.get(match["letter"], 0))
        branches = found.setdefault(match["where"] + OURS[part], {})
        assert isinstance(branches, dict)
        branches[number] = tensor
    return {name: _side_by_side(name, entry) for name, entry in found.items()}


def place_tokens(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Move patches, class token and positions to `tokens.`."""
    names = {name: name.replace("temporal_pos_embedding", "temporal_pos_embed") for name in published}
    return {f"tokens.{ours}" if ours.split(".")[0] in TOKENS else ours: published[name] for name, ours in names.items()}


def _side_by_side(name: str, entry: Tensor | dict[int, Tensor]) -> Tensor:
    if isinstance(entry, Tensor):
        return entry
    tensors = [entry[number] for number in sorted(entry)]
    return torch.cat(tensors) if "conv1d." in name else torch.stack(tensors)

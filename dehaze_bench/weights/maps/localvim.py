"""hunto/LocalMamba, the plain networks."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.branches import place_tokens, stack_branches


def map_localvim(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The branches side by side, channel attention and search weights in the merge; the rotary tables are computed."""
    ours = {}
    for name, tensor in place_tokens(published).items():
        if name in ("rope.freqs_cos", "rope.freqs_sin"):
            continue
        if re.search(r"(^|\.)multi_scan\.weights$", name):
            tensor = tensor.flatten()
        ours[re.sub(r"(^|\.)(?:multi_scan\.(?=weights$)|(?=attn\.))", r"\1merge.", name)] = tensor
    return stack_branches(ours)

"""hustvl/Vim, both mixers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.branches import place_tokens, stack_branches

# What the two branches of the first version share is one Mamba mixer here.
SHARED = re.compile(r"(^|.*\.)(A_log|D|in_proj|conv1d|x_proj|dt_proj|out_proj)(\.weight|\.bias)?$")


def map_vim(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The branches of a mixer side by side; a mixer whose second branch has but a state matrix is the first version."""
    renamed = place_tokens(published)
    if any(re.search(r"(^|\.)conv1d_b\.", name) for name in renamed):
        return stack_branches(renamed)
    ours = {}
    for name, tensor in renamed.items():
        if re.search(r"(^|\.)A_b_log$", name):
            ours[name.replace("A_b_log", "A_log")] = tensor[None]
        else:
            ours[SHARED.sub(r"\1mixer.\2\3", name)] = tensor
    return ours

"""va1shn9v/PromptIR."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.four_levels import map_four_levels

# Published number of a prompt -> level that it follows here.
LEVELS = {"1": "2", "2": "3", "3": "4"}
PARTS = {"prompt": "prompt.", "noise_level": "block.", "reduce_noise_level": "reduce."}
UNUSED = re.compile(r"(chnl_reduce\d|reduce_noise_channel_\d)\.")


def map_promptir(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Prompt, block and map after each level side by side."""
    ours = {}
    for name, tensor in map_four_levels(published).items():
        part = re.match(r"(prompt|noise_level|reduce_noise_level)([123])\.", name)
        if part is not None:
            name = f"prompting.{LEVELS[part[2]]}.{PARTS[part[1]]}{name[part.end() :]}"
        elif UNUSED.match(name):
            name = f"unused.{name}"
        ours[name] = tensor
    return ours

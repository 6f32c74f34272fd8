"""va1shn9v/PromptIR."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.restormer import map_restormer

# Published number of a prompt -> level that it follows here.
LEVELS = {"1": "2", "2": "3", "3": "4"}
PARTS = {"prompt": "prompt.", "noise_level": "block.", "reduce_noise_level": "reduce."}
UNUSED = re.compile(r"(chnl_reduce\d|reduce_noise_channel_\d)\.")


def map_promptir(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Prompt, block and map after each level side by side; `net.` of the training framework is removed."""
    ours = {}
    for name, tensor in map_restormer({name.removeprefix("net."): x for name, x in published.items()}).items():
        part = re.match(r"(prompt|noise_level|reduce_noise_level)([123])\.", name)
        if part is not None:
            name = f"prompting.{LEVELS[part[2]]}.{PARTS[part[1]]}{name[part.end() :]}"
        elif UNUSED.match(name):
            name = f"unused.{name}"
        ours[name] = tensor
    return ours

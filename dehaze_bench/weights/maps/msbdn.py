"""BookerDeWitt/MSBDN-DFF, both variants."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

SCALES = ("2x", "4x", "8x", "16x")  # published names of the scales on the way down; the way up has them with a "d"
DENSE = re.compile(r"dense(_?)(\d)\.")
FUSION = re.compile(r"fusion(_?)(\d)\.")
# The half of the channels that is not corrected, RDFF alone.
REST = re.compile(r"conv(_?)(\d)\.(?:dense_layers\.(\d)\.conv|(conv_1x1))\.")


def map_msbdn(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scales by number, the way down (finest first) and the way up (coarsest first) in lists of their own."""
    return {_rename(name): tensor for name, tensor in published.items()}


def _rename(name: str) -> str:
    name = name.replace(".conv2d.", ".").replace("dehaze.res", "dehaze.")
    for i, scale in enumerate(SCALES):
        name = re.sub(rf"^conv{scale}\.", f"downs.{i}.", name)
        name = re.sub(rf"^convd{scale}\.", f"ups.{len(SCALES) - 1 - i}.", name)
    if found := DENSE.match(name):
        ours = f"up_dense.{4 - int(found[2])}." if found[1] else f"dense.{found[2]}."
    elif found := FUSION.match(name):
        ours = _fusion(found[1], int(found[2]))
    elif found := REST.match(name):
        ours = _fusion(found[1], int(found[2])) + "rest." + (f"layers.{found[3]}." if found[3] else "conv_1x1.")
    else:
        return name
    return ours + name[found.end() :]


def _fusion(up: str, number: int) -> str:
    return f"up_fusions.{4 - number}." if up else f"fusions.{number - 1}."

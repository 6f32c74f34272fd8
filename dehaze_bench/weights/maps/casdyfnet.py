"""dauing/CasDyF-Net."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.mimo import rename_all

# Lists of one layer, and a list of layers with a module around it.
PLAIN = (
    (r"\.frequency_enlarge\.conv(\d)\.0\.", r".frequency_enlarge.conv\1."),
    (r"\.synthesizer\.0\.", ".synthesizer."),
    (r"\.local\.conv1\.", ".local."),
)


def map_casdyfnet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names of the skeleton, and layers out of lists of their own."""
    ours = {}
    for name, tensor in rename_all(published).items():
        for pattern, plain in PLAIN:
            name = re.sub(pattern, plain, name)
        ours[name] = tensor
    return ours

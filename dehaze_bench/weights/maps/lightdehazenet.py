"""hayatkhan8660-maker/Light-DehazeNet."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor


def map_lightdehazenet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`e_conv_layer1` ... `e_conv_layer8` -> `convs.0` ... `convs.7`."""
    return {
        re.sub(r"^e_conv_layer(\d)\.", lambda found: f"convs.{int(found[1]) - 1}.", name): tensor
        for name, tensor in published.items()
    }

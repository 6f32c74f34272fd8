"""MayankSingal/PyTorch-Image-Dehazing."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor


def map_aodnet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`e_conv1` ... `e_conv5` -> `conv1` ... `conv5`."""
    return {re.sub(r"^e_conv(\d)\.", r"conv\1.", name): tensor for name, tensor in published.items()}

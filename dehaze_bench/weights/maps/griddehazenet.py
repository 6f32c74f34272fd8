"""proteus1991/GridDehazeNet."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor


def map_griddehazenet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The convolutions of a dense block are listed without a module around each."""
    return {
        re.sub(r"\.residual_dense_layers\.(\d+)\.conv\.", r".layers.\1.", name): tensor
        for name, tensor in published.items()
    }

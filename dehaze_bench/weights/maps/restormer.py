"""swz30/Restormer, and the names that networks with its skeleton share."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor


def map_restormer(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The embedding and the norms without their wrappers: `patch_embed.proj.*`, `norm1.body.*`."""
    return {re.sub(r"\b(norm\d|patch_embed)\.(body|proj)\.", r"\1.", name): x for name, x in published.items()}

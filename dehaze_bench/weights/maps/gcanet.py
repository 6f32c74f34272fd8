"""cddlyf/GCANet."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor


def map_gcanet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`res1` ... `res7` -> `middle.0` ... `middle.3`, `deep.0` ... `deep.2`."""
    places = {f"res{i + 1}": f"middle.{i}" if i < 4 else f"deep.{i - 4}" for i in range(7)}
    return {re.sub(r"^res\d", lambda found: places[found[0]], name): tensor for name, tensor in published.items()}

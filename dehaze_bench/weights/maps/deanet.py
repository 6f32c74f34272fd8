"""cecret3350/DEA-Net, both forms, whole or a block."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# The convolutions that a detail-enhanced one is added up from.
PARTS = {"1": "central", "2": "horizontal", "3": "vertical", "4": "angular", "5": "vanilla"}


def map_deanet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Blocks of a stage counted from 0, attention and convolutions by what they do."""
    ours = {}
    for name, tensor in published.items():
        name = re.sub(
            r"^(.*level\d)_block(\d+)\.", lambda found: f"{found[1]}.{int(found[2]) - 1}.", rename_stems(name)
        )
        name = re.sub(r"(^|\.)conv1_(\d)(\.conv)?\.", lambda found: f"{found[1]}{PARTS.get(found[2], found[2])}.", name)
        ours[rename_attention(name)] = tensor
    return ours


def rename_stems(name: str) -> str:
    """`down1.0.weight` -> `down1.weight`: the published maps between levels are sequences of one or two."""
    return re.sub(r"^(down\d|up\d)\.0\.", r"\1.", name)


def rename_attention(name: str) -> str:
    """`sa.sa`, `ca.ca`, `pa.pa2` -> `attention.spatial`, `attention.channel`, `attention.pixel`."""
    for theirs, ours in (("sa.sa", "spatial"), ("ca.ca", "channel"), ("pa.pa2", "pixel")):
        name = re.sub(rf"(^|\.){re.escape(theirs)}\.", rf"\1attention.{ours}.", name)
    return name

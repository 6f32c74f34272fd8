"""zhilin007/FFA-Net, and what the networks of its layout have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor


def map_ffanet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Groups counted from 0, the attention layers by what they do."""
    return rename_groups(published, "palayer")


def rename_groups(published: Mapping[str, Tensor], local: str) -> dict[str, Tensor]:
    """Return the tensors under our names; `local` is the published name of the second attention of a block."""
    ours = {}
    for name, tensor in published.items():
        name = re.sub(r"^g([123])\.gp\.", lambda found: f"groups.{int(found[1]) - 1}.", name)
        name = re.sub(r"^pre\.0\.", "pre.", name).replace(".calayer.", ".channel.")
        ours[re.sub(rf"(^|\.){local}\.", r"\1local.", name)] = tensor
    return ours

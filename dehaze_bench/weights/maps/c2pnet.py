"""YuZheng9/C2PNet."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.ffanet import rename_groups


def map_c2pnet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As FFA-Net, with the physics unit as second attention."""
    return rename_groups(published, "pdu")

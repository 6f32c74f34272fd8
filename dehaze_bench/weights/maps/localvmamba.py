"""hunto/LocalMamba, the hierarchical networks."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.vmamba import rename_vss


def map_localvmamba(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """VMamba's names, and the channel attention, which is part of the merge here."""
    return rename_vss(published, (r"(^|\.)multi_scan\.attn\.", r"\1merge.attn."))

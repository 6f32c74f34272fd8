"""YuHengsss/MSVMamba, both branches."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.vmamba import rename_vss


def map_msvmamba(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """VMamba's names; the feed-forward layer has the same name in every network here."""
    return rename_vss(published, (r"(^|\.)convFFN\.", r"\1ffn."))

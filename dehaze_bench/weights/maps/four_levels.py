"""What the maps of the networks in Restormer's skeleton (nn/four_levels.py) share."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.vmamba import rename

RULES = (
    (r"^((module|model|net|net_g)\.)+", ""),
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"(norm\d?)\.body\.(weight|bias)$", r"\1.\2"),
    # What belongs to the routes of a scan, in a network or alone.
    (r"(^|\.)(x_proj_weight|dt_projs_weight|dt_projs_bias|A_logs|Ds)$", r"\1core.\2"),
)


def map_four_levels(published: Mapping[str, Tensor], *more: tuple[str, str]) -> dict[str, Tensor]:
    """Rename tensors by the rules of the skeleton, its norms and its scans, then by those of one network."""
    return rename(published, (*RULES, *more))

"""ChenhongyiYang/PlainMamba."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.vmamba import rename

RULES = (
    (r"^((module|backbone)\.)+", ""),
    (r"^patch_embed\.projection\.", "patch_embed.projection.proj."),
    (r"^head\.fc\.", "head."),
    # What belongs to the routes, in a network or alone.
    (r"(^|\.mamba\.)((x_proj|dt_proj)\.|(A_log|D|direction_Bs)$)", r"\1core.\2"),
)


def map_plainmamba(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Shorter names of the stem and the head; the core of a mixer has its own module."""
    return rename(published, RULES)

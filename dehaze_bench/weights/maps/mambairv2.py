"""csguoh/MambaIR, the second version."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.mambair import FRAME
from dehaze_bench.weights.maps.vmamba import rename

OURS = (
    (r"\.wqkv\.", ".win_mhsa.qkv."),
    (r"\.assm\.selectiveScan\.", ".assm.core."),
    (r"\.assm\.in_proj\.0\.", ".assm.in_proj."),
    (r"\.assm\.CPE\.0\.", ".assm.cpe."),
    (r"\.(?:assm\.)?embedding([AB])\.weight$", r".assm.embedding\1"),
    (r"\.dwconv\.depthwise_conv\.0\.", ".dwconv."),
    (r"\.sg\.(norm|conv)\.", r".\1."),
)
COMPUTED = "relative_position_index_SA"


def map_mambairv2(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The frame and the parts of a block; the index of relative positions is computed here."""
    ours = rename(published, (*FRAME, *OURS))
    return {name: tensor for name, tensor in ours.items() if name != COMPUTED}

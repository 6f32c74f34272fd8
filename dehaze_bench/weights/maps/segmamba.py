"""ge-xing/SegMamba."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.branches import stack_branches
from dehaze_bench.weights.maps.vmamba import rename

# MONAI's decoder counts its blocks from the full resolution, from 1; ours are in the order in which they run.
RULES = (
    (r"^vit\.downsample_layers\.0\.0\.", "downs.0."),
    (r"^vit\.downsample_layers\.(\d)\.1\.", r"downs.\1.conv."),
    (r"^vit\.", ""),
    *((rf"^encoder{i + 1}\.layer\.", f"decoder.skips.{i}.") for i in range(5)),
    *((rf"^decoder{5 - i}\.transp_conv\.conv\.", f"decoder.ups.{i}.up.") for i in range(4)),
    *((rf"^decoder{5 - i}\.conv_block\.", f"decoder.ups.{i}.conv.") for i in range(4)),
    (r"^decoder1\.layer\.", "decoder.last."),
    (r"^(decoder\..*conv[123])\.conv\.", r"\1."),
    (r"^out\.conv\.conv\.", "decoder.out."),
)


def map_segmamba(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Encoder and decoder to parts of their own, the branches of a layer side by side."""
    return stack_branches(rename(published, RULES))

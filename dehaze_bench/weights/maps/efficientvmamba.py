"""TerryPei/EfficientVMamba."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.vmamba import rename_vss

# Stages of convolutions are plain sequences: a permutation, the blocks, a permutation, the downsampling.
DOWNSAMPLING = (r"^(layers\.\d+)\.\d+\.((reduction|norm)\.)", r"\1.downsample.\2")
BLOCK = re.compile(r"^(layers\.\d+)\.(\d+)\.(conv_pw|conv_dw|se|conv_pw2)\.")


def map_efficientvmamba(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """VMamba's names; the convolutional blocks counted from 0 instead of 1."""
    return {
        BLOCK.sub(lambda found: f"{found[1]}.blocks.{int(found[2]) - 1}.{found[3]}.", name): tensor
        for name, tensor in rename_vss(published, DOWNSAMPLING).items()
    }

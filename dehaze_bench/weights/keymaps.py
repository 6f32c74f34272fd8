"""Published tensor names -> ours, one map per model, under the name the model has in conf/model/.

A map takes the whole published state dict, so that a map may also split, join or drop tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from dehaze_bench.weights.maps.deit import map_deit
from dehaze_bench.weights.maps.resnet import map_resnet
from dehaze_bench.weights.maps.swin import map_swin
from dehaze_bench.weights.maps.vrwkv import map_vrwkv

KeyMap = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def map_aodnet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """MayankSingal/PyTorch-Image-Dehazing: `e_conv1` ... `e_conv5` -> `conv1` ... `conv5`."""
    return {re.sub(r"^e_conv(\d)\.", r"conv\1.", name): tensor for name, tensor in published.items()}


KEY_MAPS: dict[str, KeyMap] = {
    "aodnet": map_aodnet,
    "deit": map_deit,
    "resnet": map_resnet,
    "swin": map_swin,
    "vrwkv": map_vrwkv,
}

"""Published tensor names -> ours, one map per model, under the name the model has in conf/model/.

A map takes the whole published state dict, so that a map may also split, join or drop tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from dehaze_bench.weights.maps.deit import map_deit
from dehaze_bench.weights.maps.efficientvmamba import map_efficientvmamba
from dehaze_bench.weights.maps.localvim import map_localvim
from dehaze_bench.weights.maps.localvmamba import map_localvmamba
from dehaze_bench.weights.maps.mamba_nd import map_mamba_nd
from dehaze_bench.weights.maps.msvmamba import map_msvmamba
from dehaze_bench.weights.maps.nnmamba import map_nnmamba
from dehaze_bench.weights.maps.plainmamba import map_plainmamba
from dehaze_bench.weights.maps.resnet import map_resnet
from dehaze_bench.weights.maps.rsmamba import map_rsmamba
from dehaze_bench.weights.maps.segmamba import map_segmamba
from dehaze_bench.weights.maps.swin import map_swin
from dehaze_bench.weights.maps.videomamba import map_videomamba
from dehaze_bench.weights.maps.vim import map_vim
from dehaze_bench.weights.maps.vivim import map_vivim
from dehaze_bench.weights.maps.vmamba import map_vmamba
from dehaze_bench.weights.maps.vrwkv import map_vrwkv
from dehaze_bench.weights.maps.zigma import map_zigma

KeyMap = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def map_aodnet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """MayankSingal/PyTorch-Image-Dehazing: `e_conv1` ... `e_conv5` -> `conv1` ... `conv5`."""
    return {re.sub(r"^e_conv(\d)\.", r"conv\1.", name): tensor for name, tensor in published.items()}


KEY_MAPS: dict[str, KeyMap] = {
    "aodnet": map_aodnet,
    "deit": map_deit,
    "efficientvmamba": map_efficientvmamba,
    "localvim": map_localvim,
    "localvmamba": map_localvmamba,
    "mamba_nd": map_mamba_nd,
    "msvmamba": map_msvmamba,
    "nnmamba": map_nnmamba,
    "plainmamba": map_plainmamba,
    "resnet": map_resnet,
    "rsmamba": map_rsmamba,
    "segmamba": map_segmamba,
    "swin": map_swin,
    "videomamba": map_videomamba,
    "vim": map_vim,
    "vivim": map_vivim,
    "vmamba": map_vmamba,
    "vrwkv": map_vrwkv,
    "zigma": map_zigma,
}

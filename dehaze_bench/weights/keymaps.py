"""Published tensor names -> ours, one map per family of networks: `map_NAME` of the module `maps/NAME.py`.

The family of a network is the name of the module that defines it. A map takes the whole published state dict, so that
it may also split, join or drop tensors.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from dehaze_bench.errors import UsageError, nearest

KeyMap = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]

NAMES = (
    "aodnet",
    "c2pnet",
    "casdyfnet",
    "convir",
    "deanet",
    "dehazeformer",
    "deit",
    "eamamba",
    "edformer",
    "efficientvmamba",
    "ffanet",
    "fourier_rwkv",
    "fsnet",
    "gcanet",
    "griddehazenet",
    "gunet",
    "irnext",
    "lightdehazenet",
    "localvim",
    "localvmamba",
    "mair",
    "mamba_nd",
    "mambair",
    "mambairv2",
    "mb_taylorformer",
    "mixdehazenet",
    "mma",
    "msbdn",
    "msvmamba",
    "nafnet",
    "nnmamba",
    "oknet",
    "plainmamba",
    "promptir",
    "resnet",
    "restore_rwkv",
    "restormer",
    "rsdformer",
    "rsmamba",
    "segmamba",
    "sfnet",
    "swin",
    "uformer",
    "uvmnet",
    "videomamba",
    "vim",
    "vivim",
    "vmamba",
    "vmambair",
    "vrwkv",
    "zigma",
)


def key_map(family: str) -> KeyMap:
    """Return the map of a family; raises `UsageError` for a name that has none."""
    if family not in NAMES:
        raise UsageError(f"Published weights of '{family}' are not known. {nearest(family, NAMES)}")
    found: KeyMap = getattr(importlib.import_module(f"dehaze_bench.weights.maps.{family}"), f"map_{family}")
    return found


def family_of(network: nn.Module | str) -> str:
    """Return the name of the module that defines a network's class, which may be given as `package.module.Class`."""
    module = network.rpartition(".")[0] if isinstance(network, str) else type(network).__module__
    return module.rpartition(".")[2]

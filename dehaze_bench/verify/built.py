"""Fixtures of networks and blocks: build from the fixture's arguments, load filled weights, compare what parts compute.

A family is a module of `verify/families` with `build(fixture, arguments) -> Built`; which one is asked depends on the
repository that the fixture was made from, so that any size and any input of a published family is understood.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.verify.compare import Row, compare_arrays, count_row
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights import load_strictly
from dehaze_bench.weights.keymaps import KeyMap

# Repository (owner/name) of a fixture -> module of `verify.families`.
FAMILIES: dict[str, str] = {
    "2697166190a-beep/ED-Former": "edformer",
    "AlphacatPlus/VmambaIR": "vmambair",
    "AmeryXiong/MixDehazeNet": "mixdehazenet",
    "ArsenalCheng/MMA": "mma",
    "BookerDeWitt/MSBDN-DFF": "msbdn",
    "c-yn/ConvIR": "convir",
    "c-yn/FSNet": "fsnet",
    "c-yn/IRNeXt": "irnext",
    "c-yn/OKNet": "oknet",
    "c-yn/SFNet": "sfnet",
    "cddlyf/GCANet": "gcanet",
    "cecret3350/DEA-Net": "deanet",
    "ChenhongyiYang/PlainMamba": "plainmamba",
    "CompVis/zigma": "zigma",
    "csguoh/MambaIR": "mambair",
    "daidaijr/EAMamba": "eamamba",
    "dauing/CasDyF-Net": "casdyfnet",
    "Dilizlr/Fourier-RWKV": "fourier_rwkv",
    "facebookresearch/deit": "deit",
    "FVL2020/ICCV-2023-MB-TaylorFormer": "mb_taylorformer",
    "ge-xing/SegMamba": "segmamba",
    "hayatkhan8660-maker/Light-DehazeNet": "lightdehazenet",
    "hunto/LocalMamba": "localmamba",
    "hustvl/Vim": "vim",
    "IDKiro/DehazeFormer": "dehazeformer",
    "IDKiro/gUNet": "gunet",
    "KyanChen/RSMamba": "rsmamba",
    "lhaof/nnMamba": "nnmamba",
    "MayankSingal/PyTorch-Image-Dehazing": "aodnet",
    "megvii-research/NAFNet": "nafnet",
    "microsoft/Swin-Transformer": "swin",
    "MingTian99/RSDformer": "rsdformer",
    "MzeroMiko/VMamba": "vmamba",
    "OpenGVLab/VideoMamba": "videomamba",
    "OpenGVLab/Vision-RWKV": "vrwkv",
    "proteus1991/GridDehazeNet": "griddehazenet",
    "pytorch/vision": "resnet",
    "scott-yjyang/Vivim": "vivim",
    "swz30/Restormer": "restormer",
    "TerryPei/EfficientVMamba": "efficientvmamba",
    "va1shn9v/PromptIR": "promptir",
    "XLearning-SCU/2025-CVPR-MaIR": "mair",
    "Yaziwel/Restore-RWKV": "restore_rwkv",
    "YuHengsss/MSVMamba": "msvmamba",
    "YuZheng9/C2PNet": "c2pnet",
    "ZhendongWang6/Uformer": "uformer",
    "zhilin007/FFA-Net": "ffanet",
    "zzr-idam/UVM-Net": "uvmnet",
}


@dataclass(frozen=True)
class Tap:
    """Where an array of a fixture is computed: a module by its path, its output or first input, and a change of layout.

    An output that is a tuple counts by its first tensor.
    """

    path: str
    change: Callable[[Tensor], Tensor] | None = None
    side: str = "output"


@dataclass
class Built:
    """A network as a fixture describes it.

    `key_map` turns the published state dict into ours. `taps` says where each array beside "out" comes from.
    `inputs` are the arguments of the call; `call` makes the call where it is more than `network(*inputs)`, and may
    return a dict of arrays, "out" among them.
    """

    network: nn.Module
    key_map: KeyMap
    inputs: tuple[Tensor, ...]
    taps: Mapping[str, Tap] = field(default_factory=dict)
    call: Callable[..., Tensor | dict[str, Tensor]] | None = None


def is_family(fixture: Fixture) -> bool:
    """Whether the fixture is of a repository whose networks are known here."""
    return repository(str(fixture.field("source"))) in FAMILIES


def check_family(fixture: Fixture) -> list[Row]:
    """Build, load and run what a fixture of a published family describes; return the rows."""
    owner = repository(str(fixture.field("source")))
    name = FAMILIES.get(owner)
    if name is None:
        raise UsageError(f"{fixture.path}: networks of '{owner}' are not known. {nearest(owner, FAMILIES)}")
    module = importlib.import_module(f"dehaze_bench.verify.families.{name}")
    arguments = BuildArguments(fixture)
    built: Built = module.build(fixture, arguments)
    arguments.finish()
    return check_built(fixture, built)


def check_built(fixture: Fixture, built: Built) -> list[Row]:
    """Return the rows of a network that is built: parameters, parts, output."""
    network = built.network.eval()
    load_strictly(network, built.key_map(fixture.weights()), source=str(fixture.path))
    found: dict[str, Tensor] = {}
    modules = dict(network.named_modules())
    handles = []
    for array, tap in built.taps.items():
        if array not in fixture.arrays:
            continue
        if tap.path not in modules:
            raise UsageError(f"{fixture.path}: array '{array}' comes from '{tap.path}', which the network has not.")
        handles.append(modules[tap.path].register_forward_hook(_keeper(found, array, tap)))
    try:
        with torch.no_grad():
            out = built.call(*built.inputs) if built.call is not None else network(*built.inputs)
    finally:
        for handle in handles:
            handle.remove()
    ours = {**found, **(out if isinstance(out, dict) else {"out": out})}
    in_order = {name: ours[name] for name in fixture.arrays if name in ours}
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    return [count_row(fixture, num_parameters), *compare_arrays(fixture, in_order)]


def _keeper(found: dict[str, Tensor], array: str, tap: Tap) -> Callable[..., None]:
    def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if array in found:  # a module that is called again: the fixtures keep the first call
            return
        value = inputs[0] if tap.side == "input" else output
        value = value[0] if isinstance(value, tuple) else value
        found[array] = (value if tap.change is None else tap.change(value)).clone()

    return keep


def to_channels_first(x: Tensor) -> Tensor:
    """(B, ..., C) -> (B, C, ...)."""
    return x.movedim(-1, 1)


def to_tokens(x: Tensor) -> Tensor:
    """(B, ..., C) -> (B, L, C)."""
    return x.flatten(1, -2)


def repository(source: str) -> str:
    """Return owner/name of the `source` of a fixture, "owner/name@commit" or "owner/name (remark)"."""
    return re.split(r"[@ ]", source.strip(), maxsplit=1)[0]

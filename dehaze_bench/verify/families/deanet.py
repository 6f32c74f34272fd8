"""DEA-Net, whole or one of its blocks, in both forms."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.deanet import CGAFusion, DEABlock, DEANet, DEBlock, DEConv
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.deanet import map_deanet

STAGES = ("down_level1", "down_level2", "level3", "up_level2", "up_level1")
# "deploy" or "train", followed by what that means.
FORM = re.compile(r"(deploy|train)(?:ing)?(?: form)?(?:[ ,:(].*)?")


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network, or for a `dim` the block, that the fixture describes."""
    if "dim" in arguments.left:
        return _build_block(fixture, arguments)
    words = str(arguments.take("form"))
    found = FORM.fullmatch(words.lower())
    if found is None:
        raise UsageError(f"{fixture.path}: build argument form={words!r} is not supported, only 'deploy' or 'train'.")
    depths = [_depth(fixture.field("shapes"), stage) for stage in STAGES]
    blocks = arguments.optional("blocks", depths)
    network = DEANet(arguments.take("base_dim"), blocks, found[1])
    taps = {"fe_level_2": Tap("fe_level_2"), "fe_level_3": Tap("fe_level_3"), "mix1": Tap("mix1"), "mix2": Tap("mix2")}
    taps |= {"down1": Tap("down1"), "up3": Tap("up3")}
    taps |= {name: Tap(name, torch.relu) for name in ("down2", "down3", "up1", "up2")}
    for stage, depth in zip(STAGES, blocks, strict=True):
        taps |= {f"{stage}_block{i + 1}": Tap(f"{stage}.{i}") for i in range(depth)}
    return Built(network, map_deanet, (fixture.normalised(),), taps)


def _build_block(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return a block, told from the others by its tensors; the fusion gets the input and its mirror image."""
    shapes: Mapping[str, object] = fixture.field("shapes")
    dim, reduction = arguments.take("dim"), _take_reduction(arguments)
    if "kernel" in arguments.left:
        arguments.expect("kernel", 3)
    x_BCHW = fixture.normalised()
    form = "train" if "conv1.conv1_5.weight" in shapes else "deploy"
    block: nn.Module
    if "conv1_5.weight" in shapes:
        block = DEConv(dim)
    elif "conv.weight" in shapes:
        block = CGAFusion(dim, reduction)
        return Built(block, map_deanet, (x_BCHW, x_BCHW.flip(-1)), _attention_taps())
    elif "sa.sa.weight" in shapes:
        block = DEABlock(dim, form, reduction)
        return Built(block, map_deanet, (x_BCHW,), {**_attention_taps(), "conv1": Tap("conv1"), "conv2": Tap("conv2")})
    else:
        block = DEBlock(dim, form)
    return Built(block, map_deanet, (x_BCHW,), {"conv1": Tap("conv1"), "conv2": Tap("conv2")})


def _attention_taps() -> dict[str, Tap]:
    """Return where the weights of the block are, and the spatial and channel maps before they are added."""
    return {"sa": Tap("attention.spatial"), "ca": Tap("attention.channel"), "pa": Tap("attention")}


def _take_reduction(arguments: BuildArguments) -> int:
    """Return the number in 4, "4" or "default 8"."""
    value = arguments.optional("reduction", 8)
    found = re.fullmatch(r"(?:default )?(\d+)(?: \(default\))?", str(value))
    if found is None:
        raise UsageError(f"{arguments.fixture.path}: build argument reduction={value!r} is not a number.")
    return int(found[1])


def _depth(shapes: Mapping[str, object], stage: str) -> int:
    numbers = {int(found[1]) for name in shapes if (found := re.match(rf"{stage}_block(\d+)\.", name))}
    return max(numbers, default=0)

"""EfficientVMamba, whole or one of its scanned blocks."""

from __future__ import annotations

from functools import partial

from dehaze_bench.models.backbones.efficientvmamba import EfficientVMamba, EVSSBlock
from dehaze_bench.nn.ss2d import SS2D
from dehaze_bench.scans import Scan
from dehaze_bench.scans.skips import atrous
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.families.vss import take_frame, take_norm, take_rank, take_version, taps
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.efficientvmamba import map_efficientvmamba

# The published code keeps only step 2 in order: larger steps leave memory unset.
STEP = 2


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network, or without `depths` the block, that the fixture describes."""
    step = arguments.expect("step", STEP)
    if "depths" not in arguments.left:
        dim = arguments.take("dims")
        scan = Scan("atrous", partial(atrous, step=step), merge="scatter")
        rank = take_rank(arguments)
        block = EVSSBlock(dim, SS2D(dim, scan, arguments.take("d_state"), arguments.take("ssm_ratio"), rank))
        found = {"es2d": Tap("op"), "conv": Tap("conv_branch")}
        return Built(block, map_efficientvmamba, (fixture.image(),), found)
    arguments.expect("mlp_ratio", 0.0)
    frame = take_frame(arguments)
    channels_first = take_norm(arguments, extra=" batchnorm eps 1e-5")
    down = take_version(arguments, "downsample", {1: "merge", 2: "conv2"}, 1)
    network = EfficientVMamba(**frame, step=step, down=down)
    return Built(network, map_efficientvmamba, (fixture.image(),), taps(frame["depths"], channels_first))

"""MSVMamba, whole or one of its blocks."""

from __future__ import annotations

import re

from dehaze_bench.errors import UsageError
from dehaze_bench.models.backbones.msvmamba import MULTISCALE, MSVMamba, MultiScaleSS2D
from dehaze_bench.nn.conv_ffn import ConvFFN
from dehaze_bench.nn.vss import VSSBlock
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.families.vss import (
    DOWNSAMPLINGS,
    STEMS,
    allow,
    take_frame,
    take_norm,
    take_rank,
    take_version,
    taps,
)
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.msvmamba import map_msvmamba

# forward_type -> release and gate.
KINDS = {
    "v2, multiscale_4scan_12": (1, True),
    "multiscale_4scan_12": (1, True),
    "vms": (3, True),
    "vms_noz": (3, False),
}
VERSIONS = {1: ("patch", "merge", "bilinear"), 3: ("conv", "conv3", "nearest")}


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network, or without `depths` the block of release 1, that the fixture describes."""
    if "depths" not in arguments.left:
        return _build_block(fixture, arguments)
    release, gate = KINDS[arguments.expect("forward_type", *KINDS)]
    stem, down, enlarge = VERSIONS[release]
    given = take_version(arguments, "patch_embed", STEMS, 1), take_version(arguments, "downsample", DOWNSAMPLINGS, 1)
    if given != (stem, down):
        raise UsageError(f"{fixture.path}: release {release} of MSVMamba has a {stem} stem and {down} downsampling.")
    allow(arguments, "up_sample", enlarge)
    allow(arguments, "mlp_ratio", 0.0)
    frame = take_frame(arguments)
    channels_first = take_norm(arguments)
    network = MSVMamba(
        **frame,
        gate=gate,
        squeeze=arguments.take("add_se"),
        ffn_ratio=_read_ffn(arguments, release),
        release=release,
    )
    return Built(network, map_msvmamba, (fixture.image(),), taps(frame["depths"], channels_first))


def _read_ffn(arguments: BuildArguments, release: int) -> float:
    """Return the ratio that "convolutional, ratio 2" states; release 3 has its norm after the layer."""
    value = str(arguments.take("ffn"))
    found = re.fullmatch(r"convolutional, ratio (\d+(?:\.\d+)?)(, post-norm)?", value)
    if found is None or bool(found[2]) != (release == 3):
        after = ", post-norm" if release == 3 else ""
        raise UsageError(
            f"{arguments.fixture.path}: build argument ffn={value!r} is not supported, only "
            f"'convolutional, ratio N{after}'"
        )
    return float(found[1])


def _build_block(fixture: Fixture, arguments: BuildArguments) -> Built:
    dim = arguments.take("dims")
    op = MultiScaleSS2D(dim, MULTISCALE, arguments.take("d_state"), arguments.take("ssm_ratio"), take_rank(arguments))
    block = VSSBlock(dim, op, ConvFFN(dim, int(dim * arguments.optional("ffn_ratio", 2))))
    found = {"op": Tap("op"), "ffn": Tap("ffn.linear2")}
    return Built(block, map_msvmamba, (fixture.image(),), found)

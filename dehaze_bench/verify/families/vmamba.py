"""VMamba, whole or its operator alone."""

from __future__ import annotations

import re
from functools import partial

from dehaze_bench.errors import UsageError
from dehaze_bench.models.backbones.vmamba import ACTIVATIONS, CORES, CROSS, VMamba
from dehaze_bench.nn.ss2d import SS2D
from dehaze_bench.scans import Scan
from dehaze_bench.scans.planar import bidirectional, raster
from dehaze_bench.verify.built import Built, Tap, to_channels_first, to_tokens
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
from dehaze_bench.weights.maps.vmamba import map_vmamba

# Version in `forward_type` -> routes. The versions without a letter differ in kernels and precision alone.
SCANS = {
    "1d": Scan("unidirectional", partial(raster, copies=4), merge="sum"),
    "2d": Scan("bidirectional", partial(bidirectional, copies=2), merge="sum"),
    "": CROSS,
}


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network, or for a `d_model` the operator, that the fixture describes."""
    core, gate, scan = _read_forward_type(arguments)
    if "d_model" in arguments.left:
        operator = SS2D(
            arguments.take("d_model"),
            scan,
            d_state=arguments.take("d_state"),
            ratio=arguments.take("ssm_ratio"),
            dt_rank=take_rank(arguments),
            gate=gate,
            conv_bias=arguments.take("conv_bias"),
            core=CORES[core],
        )
        first = arguments.optional("channel_first", False)
        picture = fixture.image()
        change = to_channels_first if first else None
        found = {
            "in_proj": Tap("in_proj", change),
            "conv": Tap("conv2d"),
            "out_norm": Tap("out_norm", change or to_tokens),
        }
        call = (lambda x: to_channels_first(operator(x.movedim(1, -1)))) if first else None
        return Built(operator, map_vmamba, (picture,), found, call)
    frame = take_frame(arguments)
    channels_first = take_norm(arguments)
    allow(arguments, "mlp_act", "gelu (erf)", "gelu")
    network = VMamba(
        **frame,
        gate=gate,
        conv=arguments.take("ssm_conv"),
        conv_bias=arguments.take("ssm_conv_bias"),
        act=arguments.expect("act", *ACTIVATIONS),
        ffn_ratio=arguments.take("mlp_ratio"),
        stem=take_version(arguments, "patch_embed", STEMS, 1),
        down=take_version(arguments, "downsample", DOWNSAMPLINGS, 1),
        core=core,
        scan=scan,
    )
    return Built(network, map_vmamba, (fixture.image(),), taps(frame["depths"], channels_first))


def _read_forward_type(arguments: BuildArguments) -> tuple[str, bool, Scan]:
    """Return the core, whether there is a gate, and the scan."""
    value = str(arguments.take("forward_type"))
    found = re.fullmatch(r"(?:(v0)(?:seq)?|(v0[1-5]|v2|v3)|v(?:05|3)([12]d)|(m0))(_noz)?", value)
    if found is None or (found[1] and found[5]):
        raise UsageError(
            f"{arguments.fixture.path}: build argument forward_type={value!r} is not supported, only v0, v01 to v05, "
            "v2 and v3 (also for one or two directions, v051d and v052d), and m0; _noz for those without a gate"
        )
    return "ssd" if found[4] else "s6", not found[5], SCANS[found[3] or ""]

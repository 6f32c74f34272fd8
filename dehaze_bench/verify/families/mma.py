"""MMA."""

from __future__ import annotations

from dehaze_bench.models.restorers.mma import MMA
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.families.branches import take_mixer
from dehaze_bench.verify.families.vss import allow
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.mma import map_mma


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    arguments.optional("published", "")
    arguments.expect("bimamba", "v2")
    for name in ("num_in_ch", "num_out_ch"):
        allow(arguments, name, 3)
    num_blocks = arguments.take("num_block")
    network = MMA(
        dim=arguments.take("num_feat"),
        num_blocks=num_blocks,
        upscale=arguments.take("upscale"),
        image_range=arguments.take("img_range"),
        **take_mixer(arguments),
    )
    taps = {f"block{i}": Tap(f"body.{i}") for i in range(num_blocks)}
    taps |= {"stem": Tap("conv_first"), "blocklast": Tap("body"), "after_body": Tap("conv_after_body")}
    return Built(network, map_mma, (fixture.image(),), taps)

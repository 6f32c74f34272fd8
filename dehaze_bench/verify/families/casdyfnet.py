"""CasDyF-Net."""

from __future__ import annotations

from dehaze_bench.models.restorers.casdyfnet import CasDyFNet
from dehaze_bench.verify.built import Built
from dehaze_bench.verify.families import mimo
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.casdyfnet import map_casdyfnet


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes; the published `num_res` is read by nothing."""
    if "factory" in arguments.left:
        arguments.expect("factory", "build_net()", "build_net")
    sizes = mimo.take_sizes(arguments)
    sizes.pop("num_res", None)
    return mimo.whole(fixture, CasDyFNet(**sizes), map_casdyfnet)

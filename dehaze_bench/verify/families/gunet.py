"""gUNet, of a published size or any other."""

from __future__ import annotations

from typing import Any

from dehaze_bench.models.restorers.gunet import GUNet
from dehaze_bench.verify.built import Built
from dehaze_bench.verify.families.levels import level_taps, take_given, take_size
from dehaze_bench.verify.families.vss import allow
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.gunet import PARTS, map_gunet

SIZES: dict[str, dict[str, Any]] = {
    f"gunet_{size}": {"depths": [n, n, n, 2 * n, n, n, n]} for size, n in (("t", 2), ("s", 4), ("b", 8), ("d", 16))
}
# What the class builds unless it is told otherwise.
DEFAULTS = {"depths": [4] * 7, "width": 32}


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes: sigmoid gates, batch norms, selective-kernel fusion."""
    sizes = take_size(arguments, SIZES) or DEFAULTS
    given = take_given(arguments, {"depths": "depths", "base_dim": "width", "kernel_size": "kernel"})
    for name, supported in (
        ("conv_layer", "ConvLayer"),
        ("norm_layer", "BatchNorm2d"),
        ("gate_act", "Sigmoid"),
        ("fusion_layer", "SKFusion"),
    ):
        allow(arguments, name, supported, f"nn.{supported}")
    network = GUNet(**{**sizes, **given})
    return Built(network, map_gunet, (fixture.normalised(),), level_taps(fixture, PARTS), network.restore)

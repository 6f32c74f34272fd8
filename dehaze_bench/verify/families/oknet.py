"""OKNet."""

from __future__ import annotations

from dehaze_bench.models.restorers.oknet import OKNet
from dehaze_bench.verify.built import Built
from dehaze_bench.verify.families import mimo
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.oknet import map_oknet


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    kernel = arguments.optional("kernel", 63)
    return mimo.whole(fixture, OKNet(**mimo.take_sizes(arguments), kernel=kernel), map_oknet)

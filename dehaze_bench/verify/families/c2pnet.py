"""C2PNet."""

from __future__ import annotations

from dehaze_bench.models.restorers.c2pnet import C2PNet
from dehaze_bench.verify.built import Built
from dehaze_bench.verify.families.ffanet import group_taps, take_sizes
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.c2pnet import map_c2pnet


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    network = C2PNet(**take_sizes(arguments))
    return Built(network, map_c2pnet, (fixture.normalised(),), group_taps(), network.restore)

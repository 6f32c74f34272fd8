"""MixDehazeNet, of a published size or any other."""

from __future__ import annotations

from typing import Any

from dehaze_bench.models.restorers.mixdehazenet import MixDehazeNet
from dehaze_bench.verify.built import Built
from dehaze_bench.verify.families.levels import level_taps, take_scales, take_size
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.mixdehazenet import PARTS, map_mixdehazenet

SIZES: dict[str, dict[str, Any]] = {
    f"mixdehazenet_{size}": {"depths": [n, n, 2 * n, n, n]} for size, n in (("t", 1), ("s", 2), ("b", 4), ("l", 8))
}


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    network = MixDehazeNet(**{"depths": [1, 1, 2, 1, 1], **take_size(arguments, SIZES), **take_scales(arguments)})
    return Built(network, map_mixdehazenet, (fixture.normalised(),), level_taps(fixture, PARTS), network.restore)

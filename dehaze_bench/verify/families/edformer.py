"""ED-Former."""

from __future__ import annotations

from typing import Any

from dehaze_bench.models.restorers.edformer import EDFormer
from dehaze_bench.verify.built import Built
from dehaze_bench.verify.families.levels import level_taps, take_attention, take_size
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.edformer import PARTS, map_edformer

SIZE: dict[str, Any] = {"depths": [4, 4, 4, 2, 2], "attention": [0, 0.5, 1, 0, 0]}


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes; what is not said is as in the one size of it."""
    take_size(arguments, {"ed_former": SIZE})
    network = EDFormer(**{**SIZE, **take_attention(arguments, "ffn_ratios")})
    return Built(network, map_edformer, (fixture.normalised(),), level_taps(fixture, PARTS), network.restore)

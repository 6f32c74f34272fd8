"""DehazeFormer, of a published size or any other."""

from __future__ import annotations

from typing import Any

from dehaze_bench.models.restorers.dehazeformer import DehazeFormer
from dehaze_bench.verify.built import Built
from dehaze_bench.verify.families.levels import level_taps, take_attention, take_size
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.dehazeformer import PARTS, map_dehazeformer

_FULL = {"convolutions": ["full"] * 5}
_WIDE = {"dims": [48, 96, 192]}
SIZES: dict[str, dict[str, Any]] = {
    "dehazeformer_t": {"depths": [4, 4, 4, 2, 2], "attention": [0, 0.5, 1, 0, 0]},
    "dehazeformer_s": {"depths": [8, 8, 8, 4, 4]},
    "dehazeformer_b": {"depths": [16, 16, 16, 8, 8]},
    "dehazeformer_d": {"depths": [32, 32, 32, 16, 16]},
    "dehazeformer_w": {"depths": [16, 16, 16, 8, 8], **_WIDE},
    "dehazeformer_m": {"depths": [12, 12, 12, 6, 6], **_FULL},
    "dehazeformer_l": {"depths": [16, 16, 16, 12, 12], **_WIDE, **_FULL},
}


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    network = DehazeFormer(**{**take_size(arguments, SIZES), **take_attention(arguments, "mlp_ratios")})
    return Built(network, map_dehazeformer, (fixture.normalised(),), level_taps(fixture, PARTS), network.restore)

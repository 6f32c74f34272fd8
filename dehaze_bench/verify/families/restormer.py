"""Restormer."""

from __future__ import annotations

from typing import Any

from dehaze_bench.models.restorers.restormer import NORMS, Restormer
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.restormer import map_restormer

PARTS = ("patch_embed", "encoder_level1", "encoder_level2", "encoder_level3", "latent", "decoder_level3",
         "decoder_level2", "decoder_level1", "refinement", "output")  # fmt: skip
TAPS = {name: Tap(name) for name in PARTS}


def take_levels(arguments: BuildArguments) -> dict[str, Any]:
    """Return the arguments that a network with Restormer's skeleton and blocks shares with it."""
    arguments.optional("published", None)  # what the full size would be
    return {
        "depths": arguments.take("num_blocks"),
        "refinement": arguments.take("num_refinement_blocks"),
        "heads": arguments.take("heads"),
        "expansion": arguments.optional("ffn_expansion_factor", 2.66),
        "bias": arguments.optional("bias", False),
    }


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    levels = take_levels(arguments)
    norm = arguments.expect("LayerNorm_type", *NORMS) if "LayerNorm_type" in arguments.left else NORMS[0]
    network = Restormer(arguments.take("dim"), **levels, norm=norm)
    return Built(network, map_restormer, (fixture.normalised(),), TAPS)

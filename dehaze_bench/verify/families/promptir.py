"""PromptIR."""

from __future__ import annotations

from dehaze_bench.models.restorers.promptir import DIM, PromptIR
from dehaze_bench.verify.built import Built
from dehaze_bench.verify.families.restormer import TAPS, take_levels
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.promptir import map_promptir


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes: with prompts, for which there is one width."""
    arguments.expect("dim", DIM)
    if "decoder" in arguments.left:
        arguments.expect("decoder", True)
    if "LayerNorm_type" in arguments.left:
        arguments.expect("LayerNorm_type", "WithBias")
    return Built(PromptIR(**take_levels(arguments)), map_promptir, (fixture.normalised(),), TAPS)

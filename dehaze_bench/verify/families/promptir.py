"""PromptIR."""

from __future__ import annotations

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.promptir import DIM, PromptIR
from dehaze_bench.verify.built import Built
from dehaze_bench.verify.families.four_levels import take_norm
from dehaze_bench.verify.families.restormer import TAPS, take_levels
from dehaze_bench.verify.families.vss import allow
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.promptir import map_promptir


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes: with prompts, for which there is one width."""
    allow(arguments, "decoder", True)
    levels, norm = take_levels(arguments), take_norm(arguments)
    if levels.pop("dim") != DIM or norm != "withbias":
        raise UsageError(f"{fixture.path}: PromptIR is built with dim={DIM} and norms with bias only.")
    return Built(PromptIR(**levels), map_promptir, (fixture.normalised(),), TAPS)

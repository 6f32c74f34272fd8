"""Restormer."""

from __future__ import annotations

from typing import Any

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.restormer import Restormer
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.families.four_levels import level_taps, take_norm, take_skeleton
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.restormer import map_restormer

TAPS = level_taps() | {"output": Tap("output")}


def take_levels(arguments: BuildArguments) -> dict[str, Any]:
    """Return the arguments that PromptIR shares with Restormer: those of the skeleton, heads and expansion."""
    sizes = take_skeleton(arguments)
    if sizes.pop("channels") != 3:
        raise UsageError(f"{arguments.fixture.path}: only pictures of three channels are supported.")
    sizes["heads"] = arguments.take("heads")
    return sizes | {"expansion": arguments.optional("ffn_expansion_factor", 2.66)}


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    network = Restormer(**take_levels(arguments), norm=take_norm(arguments))
    return Built(network, map_restormer, (fixture.normalised(),), TAPS)

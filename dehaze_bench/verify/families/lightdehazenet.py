"""Light-DehazeNet."""

from __future__ import annotations

from dehaze_bench.models.restorers.lightdehazenet import CONVS, LightDehazeNet
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.lightdehazenet import map_lightdehazenet


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network; there is one size of it."""
    arguments.expect("convs", len(CONVS))
    taps = {f"e_conv_layer{i + 1}": Tap(f"convs.{i}") for i in range(len(CONVS))}
    return Built(LightDehazeNet(), map_lightdehazenet, (fixture.normalised(),), taps)

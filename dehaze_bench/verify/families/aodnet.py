"""AOD-Net."""

from __future__ import annotations

from dehaze_bench.models.restorers.aodnet import AODNet
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.aodnet import map_aodnet


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network; there is one size of it."""
    arguments.expect("kernels", [1, 3, 5, 7, 3])
    arguments.expect("channels", 3)
    arguments.expect("concat", "1-2, 2-3, 1-4")
    arguments.expect("output", "relu(K*x - K + 1)")
    taps = {f"e_conv{i}": Tap(f"conv{i}") for i in range(1, 6)}
    return Built(AODNet(), map_aodnet, (fixture.normalised(),), taps)

"""LocalVMamba."""

from __future__ import annotations

from dehaze_bench.models.backbones.localvmamba import LocalVMamba
from dehaze_bench.verify.built import Built
from dehaze_bench.verify.families.vss import take_frame, take_norm, taps
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.localvmamba import map_localvmamba


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    arguments.expect("mlp", "none")
    frame = take_frame(arguments)
    channels_first = take_norm(arguments)
    network = LocalVMamba(arguments.take("directions"), **frame)
    return Built(network, map_localvmamba, (fixture.image(),), taps(frame["depths"], channels_first))

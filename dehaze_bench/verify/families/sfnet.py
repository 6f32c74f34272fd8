"""SFNet."""

from __future__ import annotations

from dehaze_bench.models.restorers.sfnet import WINDOWS, SFNet
from dehaze_bench.verify.built import Built
from dehaze_bench.verify.families import mimo
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.sfnet import map_sfnet

# Mode and data of the published build -> its window of evaluation; built to train, it has none.
MODES = [[mode, data] for mode in ("train", "test") for data in WINDOWS]


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    mode, data = arguments.expect("mode", *MODES)
    network = SFNet(**mimo.take_sizes(arguments), window=WINDOWS[data] if mode == "test" else None)
    return mimo.whole(fixture, network, map_sfnet)

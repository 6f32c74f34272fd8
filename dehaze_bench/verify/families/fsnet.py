"""FSNet."""

from __future__ import annotations

from dehaze_bench.models.restorers.fsnet import FSNet
from dehaze_bench.verify.built import Built
from dehaze_bench.verify.families import mimo
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.fsnet import map_fsnet

# The two published builds: global means for indoor images, windows for outdoor ones.
WINDOWS = {"ITS": None, "OTS": 210}


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    data = arguments.expect("data", *WINDOWS) if "data" in arguments.left else "ITS"
    return mimo.whole(fixture, FSNet(**mimo.take_sizes(arguments), window=WINDOWS[data]), map_fsnet)

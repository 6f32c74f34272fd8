"""NAFNet."""

from __future__ import annotations

from dehaze_bench.models.restorers.nafnet import NAFNet
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.nafnet import map_nafnet


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes; arrays are named by their modules, with underscores."""
    arguments.expect("img_channel", 3)
    arguments.optional("published", None)
    network = NAFNet(
        width=arguments.take("width"),
        encoder=arguments.take("enc_blk_nums"),
        middle=arguments.take("middle_blk_num"),
        decoder=arguments.take("dec_blk_nums"),
    )
    stages = len(network.encoders)
    lists = {
        f"{name}_{i}": Tap(f"{name}.{i}") for name in ("encoders", "decoders", "downs", "ups") for i in range(stages)
    }
    taps = {name: Tap(name) for name in ("intro", "middle_blks", "ending")} | lists
    return Built(network, map_nafnet, (fixture.normalised(),), taps)

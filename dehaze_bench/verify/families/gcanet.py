"""GCANet."""

from __future__ import annotations

from torch import Tensor

from dehaze_bench.models.restorers.gcanet import LEVELS, GCANet
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.gcanet import map_gcanet


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes; `out` is what it finds, before the picture is added to it."""
    arguments.expect("in_c", 4)
    arguments.expect("out_c", 3)
    network = GCANet(residual=arguments.expect("only_residual", True, False))

    def call(image_BCHW: Tensor) -> dict[str, Tensor]:
        x_B4HW = network.add_edges(image_BCHW * LEVELS)
        return {"out": network.restore(x_B4HW), "edge_channel": x_B4HW[0, 3:]}

    layers = ("conv1", "norm1", "conv2", "norm2", "conv3", "norm3", "gate", "deconv3", "norm4", "deconv2", "norm5")
    taps = {name: Tap(name) for name in (*layers, "deconv1")}
    taps |= {f"res{i + 1}": Tap(f"middle.{i}" if i < 4 else f"deep.{i - 4}") for i in range(7)}
    return Built(network, map_gcanet, (fixture.normalised(),), taps, call)

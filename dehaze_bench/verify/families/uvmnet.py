"""UVM-Net as released."""

from __future__ import annotations

from dehaze_bench.models.restorers.uvmnet import UVMNet
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.uvmnet import map_uvmnet


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes: arrays are named after stages, those of a block by number."""
    arguments.expect("bilinear", True)
    arguments.expect("residual", "output + input", "input + output")
    arguments.expect("head", "1x1 convolution", "1x1 conv")
    network = UVMNet(
        widths=arguments.take("widths"),
        token_grid=arguments.take("token_grid"),
        channel_ssm=arguments.optional("channel_ssm", True),
        d_state=arguments.take("d_state"),
        d_conv=arguments.take("d_conv"),
        expand=arguments.take("expand"),
    )
    places = {"inc": "inc"} | {f"down{i + 1}": f"downs.{i}" for i in range(4)}
    places |= {f"up{i + 1}": f"ups.{i}" for i in range(4)}
    taps = {name: Tap(place) for name, place in places.items()}
    taps |= {f"ub{number}": Tap(f"{place}.ub") for number, place in enumerate(places.values())}
    taps |= {f"ub_m{core}": Tap(f"downs.0.ub.model{core}") for core in (1, 2, 3)}  # those of the second stage
    return Built(network, map_uvmnet, (fixture.image(),), taps)

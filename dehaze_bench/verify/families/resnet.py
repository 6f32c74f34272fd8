"""ResNet of torchvision."""

from __future__ import annotations

from dehaze_bench.models.backbones.resnet import ResNet
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.resnet import map_resnet


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    arguments.expect("variant", "v1.5 (stride in the 3x3)")
    depths = arguments.optional("depths", (3, 4, 6, 3))
    network = ResNet(depths, num_classes=arguments.take("classes"))
    taps = {"stem": Tap("maxpool"), **{f"layer{i}": Tap(f"layer{i}") for i in range(1, 5)}}
    return Built(network, map_resnet, (fixture.image(),), taps)

"""nnMamba, whole or its Mamba layer alone."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.models.backbones.nnmamba import BIDIRECTIONAL, MambaLayer, NnMamba
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.families.branches import take_mixer
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.nnmamba import map_nnmamba


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network, or for a `dim` the layer, that the fixture describes; "note" is a remark."""
    arguments.optional("note", "")
    if "dim" in arguments.left:
        return _build_layer(fixture, arguments)
    sizes = {
        name: arguments.optional(name, default) for name, default in (("d_state", 16), ("d_conv", 4), ("expand", 2))
    }
    network = NnMamba(
        channels=arguments.take("in_ch"),
        dim=arguments.take("channels"),
        blocks=arguments.take("blocks"),
        num_classes=arguments.take("classes"),
        **sizes,
    )
    taps = {"stem": Tap("stem")}
    for i in range(3):
        taps |= {f"layer{i + 1}": Tap(f"stages.{i}"), f"mamba{i + 1}": Tap(f"stages.{i}.mamba_layer")}
    return Built(network, map_nnmamba, (fixture.image(),), taps)


def _build_layer(fixture: Fixture, arguments: BuildArguments) -> Built:
    arguments.expect("mean_of", 4)
    layer = MambaLayer(arguments.take("dim"), BIDIRECTIONAL, **take_mixer(arguments))

    def call(x: Tensor) -> dict[str, Tensor]:
        """The routes are batched in ours, so the mixer of the first route alone is asked again."""
        first_BLC = F.relu(layer.norm(layer.nin(x))).flatten(2).transpose(1, 2)
        return {"out": layer(x), "mamba": layer.mamba(first_BLC)}

    return Built(layer, map_nnmamba, (fixture.image(),), {"nin": Tap("nin")}, call)

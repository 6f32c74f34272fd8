"""GridDehazeNet of any grid."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.models.restorers.griddehazenet import STRIDE, GridDehazeNet
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.griddehazenet import map_griddehazenet


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes; "published" is a remark about the published size.

    Channel weights that the fixture does not list stay as they are built, ones.
    """
    arguments.optional("published", "")
    arguments.expect("stride", STRIDE)
    network = GridDehazeNet(
        height=arguments.take("height"),
        width=arguments.take("width"),
        dim=arguments.take("depth_rate"),
        layers=arguments.take("num_dense_layer"),
        growth=arguments.take("growth_rate"),
    )

    def to_ours(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"coefficient": network.coefficient.detach(), **map_griddehazenet(published)}

    taps = {name: Tap(name) for name in ("conv_in", "rdb_in", "rdb_out", "conv_out")}
    for kind in ("rdb_module", "downsample_module", "upsample_module"):
        taps |= {f"{kind}_{place}": Tap(f"{kind}.{place}") for place in getattr(network, kind)}
    return Built(network, to_ours, (fixture.normalised(),), taps, network.restore)

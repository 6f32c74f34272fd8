"""ConvIR, whole or a part of it alone."""

from __future__ import annotations

from typing import Any

from torch import nn

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.convir import ConvIR, MultiShape, block, deep_pool
from dehaze_bench.verify.built import Built
from dehaze_bench.verify.families import mimo
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.convir import map_convir

VERSIONS = {"small": 4, "base": 8, "large": 16}
# Data sets that the published code knows; it builds the same network for all of them.
DATA = ("ITS", "OTS", "Haze4K", "Haze4k", "Densehaze", "Ihaze", "Nhhaze", "Ohaze", "NHR", "GTA5", "real_haze")


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network; for `filter` a block, for `channels` alone its layer, for `dim` the filters in that."""
    if "data" in arguments.left:
        arguments.expect("data", *DATA)
    part: nn.Module
    if "dim" in arguments.left:
        kernel, groups = arguments.optional("kernel_size", 3), arguments.optional("group", 8)
        part = MultiShape(arguments.take("dim"), arguments.optional("dilation", 1), kernel, groups)
    elif "channels" in arguments.left:
        dim = arguments.take("channels")
        part = mimo.take_block(arguments, lambda filtered: block(dim, filtered), lambda: deep_pool(dim))
    else:
        return mimo.whole(fixture, _build_network(arguments), map_convir)
    return mimo.part(fixture, part, map_convir, square="square_att", strip="strip_att")


def _build_network(arguments: BuildArguments) -> ConvIR:
    """Return the network of a version, of a number of blocks, or of both where they agree."""
    sizes: dict[str, Any] = {**mimo.take_sizes(arguments)}
    if "version" in arguments.left:
        version = arguments.expect("version", *VERSIONS)
        if sizes.setdefault("num_res", VERSIONS[version]) != VERSIONS[version]:
            raise UsageError(
                f"{arguments.fixture.path}: version {version!r} has num_res={VERSIONS[version]}, "
                f"not {sizes['num_res']}."
            )
    return ConvIR(**sizes)

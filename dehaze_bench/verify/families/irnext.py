"""IRNeXt, whole or a part of it alone."""

from __future__ import annotations

from torch import nn

from dehaze_bench.models.restorers.irnext import IRNeXt, block, deep_pool
from dehaze_bench.nn.pooled_filter import ModulatedFilter
from dehaze_bench.verify.built import Built
from dehaze_bench.verify.families import mimo
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.irnext import map_irnext


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network; for `filter` a block, for `channels` alone its layer, for `inchannels` the filter in that."""
    part: nn.Module
    if "inchannels" in arguments.left:
        side = arguments.optional("kernel_size", 3)
        part = ModulatedFilter(arguments.take("inchannels"), (side, side), arguments.optional("group", 8))
    elif "channels" in arguments.left:
        dim = arguments.take("channels")
        part = mimo.take_block(arguments, lambda filtered: block(dim, filtered), lambda: deep_pool(dim))
    else:
        return mimo.whole(fixture, IRNeXt(**mimo.take_sizes(arguments)), map_irnext)
    return mimo.part(fixture, part, map_irnext)

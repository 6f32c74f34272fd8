"""Vim, whole or its mixer alone."""

from __future__ import annotations

import re

from dehaze_bench.models.backbones.vim import Vim
from dehaze_bench.nn.branched import Branched, SharedBranches
from dehaze_bench.scans import Scan, planar
from dehaze_bench.verify.built import Built
from dehaze_bench.verify.families.branches import column_taps, refuse, take_column, take_mixer, take_place
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.vim import map_vim

# Which version, what it has of its own, and how both directions are merged, as in "bidirectional v2, ..., mean ...".
MIXER = re.compile(
    r"(?:bidirectional )?v([12])(?:, (?:two parameter sets|shared parameters)[a-z ]*)?"
    r"(?:, (mean|sum)(?: of both directions)?(?: \(no division\))?)?"
)


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network, or for a `d_model` the mixer, that the fixture describes."""
    if "d_model" in arguments.left:
        return _build_mixer(fixture, arguments)
    words = str(arguments.take("mixer"))
    found = MIXER.fullmatch(words)
    if found is None:
        raise refuse(arguments, "mixer", words, "bidirectional v1 or v2, followed by mean or sum of both directions")
    merge = found[2] or ("sum" if found[1] == "1" else "mean")
    sizes = take_column(arguments)
    network = Vim(
        **sizes,
        stride=arguments.optional("stride", sizes["patch"]),
        mixer=f"v{found[1]}",
        class_token=take_place(arguments, "position table added after the insertion", "its token is read out"),
        scan=Scan("bidirectional", planar.bidirectional, merge),
    )
    return Built(network, map_vim, (fixture.image(),), column_taps(sizes["depth"]))


def _build_mixer(fixture: Fixture, arguments: BuildArguments) -> Built:
    version = arguments.expect("bimamba_type", "v1", "v2")
    halved = arguments.expect("divide_out", True, False) if version == "v2" else False
    scan = Scan("bidirectional", planar.bidirectional, "mean" if halved else "sum")
    layer = Branched if version == "v2" else SharedBranches
    mixer = layer(arguments.take("d_model"), scan, **take_mixer(arguments))
    x_BLC = fixture.image()
    return Built(mixer, map_vim, (x_BLC,), call=lambda x: mixer(x, (x.shape[1],)))

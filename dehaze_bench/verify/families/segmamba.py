"""SegMamba."""

from __future__ import annotations

from dehaze_bench.models.backbones.segmamba import SegMamba
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.segmamba import map_segmamba


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes; "note" is a remark."""
    arguments.optional("note", "")
    sizes = {
        name: arguments.optional(name, default) for name, default in (("d_state", 16), ("d_conv", 4), ("expand", 2))
    }
    network = SegMamba(
        channels=arguments.take("in_chans"),
        num_classes=arguments.take("out_chans"),
        depths=arguments.take("depths"),
        dims=arguments.take("feat_size"),
        hidden=arguments.take("hidden_size"),
        slices=arguments.take("nslices"),
        **sizes,
    )
    taps: dict[str, Tap] = {}
    for i in range(4):
        taps |= {f"down{i}": Tap(f"downs.{i}"), f"gsc{i}": Tap(f"gscs.{i}"), f"tom{i}": Tap(f"stages.{i}.0")}
        taps[f"mixer{i}"] = Tap(f"stages.{i}.0.mamba")
    taps |= {f"encoder{i + 1}": Tap(f"decoder.skips.{i}") for i in range(5)}
    return Built(network, map_segmamba, (fixture.image(),), taps)

"""Vivim's layer."""

from __future__ import annotations

from functools import partial

from dehaze_bench.models.backbones.vivim import VivimLayer
from dehaze_bench.scans import Scan, volume
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.families.branches import take_mixer
from dehaze_bench.verify.families.vss import allow
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.vivim import map_vivim


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the layer that the fixture describes."""
    allow(arguments, "norm", "LayerNorm eps 1e-5", "LayerNorm")
    allow(arguments, "act", "GELU erf", "GELU (erf)", "GELU", "gelu")
    frames = arguments.optional("nframes", None)
    layer = VivimLayer(
        arguments.take("dim"),
        **take_mixer(arguments),
        mlp_ratio=arguments.take("mlp_ratio"),
        scan=Scan("vivim", partial(volume.tri_orientation, slices=frames), "mean"),
    )
    return Built(layer, map_vivim, (fixture.image(),), {"mixer": Tap("mamba"), "mlp": Tap("mlp")})

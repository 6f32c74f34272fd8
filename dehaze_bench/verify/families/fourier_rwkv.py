"""Fourier-RWKV."""

from __future__ import annotations

from dehaze_bench.models.restorers.fourier_rwkv import FourierRWKV
from dehaze_bench.verify.built import Built, Tap, to_tokens
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.fourier_rwkv import map_fourier_rwkv


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    arguments.optional("published", None)  # the released size, in words
    network = FourierRWKV(
        dim=arguments.take("dim"),
        depths=arguments.take("encoder"),
        decoder_depths=arguments.take("decoder"),
        hidden_rate=arguments.optional("hidden_rate", 4),
        table=arguments.optional("pos_table", 32),
    )
    taps = {"stem": Tap("head"), "latent": Tap("encoder.3"), "mix0": Tap("encoder.0.layers.0.att", to_tokens)}
    for level in (1, 2, 3):
        taps[f"stage{level}"] = Tap(f"encoder.{level - 1}")
        taps[f"down{level}"] = Tap(f"down.{level - 1}")
        taps[f"up{level}"] = Tap(f"up.{3 - level}")
        taps[f"fuse{level}"] = Tap(f"fuse.{3 - level}")
        taps[f"decoder{level}"] = Tap(f"decoder.{3 - level}")
    return Built(network, map_fourier_rwkv, (fixture.image(),), taps)

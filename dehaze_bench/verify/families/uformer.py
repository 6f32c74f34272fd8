"""Uformer."""

from __future__ import annotations

from torch import Tensor

from dehaze_bench.models.restorers.uformer import HEADS, Uformer
from dehaze_bench.verify.built import Built, Tap, to_tokens
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.uformer import map_uformer


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes; its inner arrays are tokens."""
    arguments.optional("published", None)
    arguments.expect("token_projection", "linear")
    arguments.expect("token_mlp", "leff")
    arguments.expect("dd_in", 3)
    network = Uformer(
        dim=arguments.take("embed_dim"),
        depths=arguments.take("depths"),
        window=arguments.take("win_size"),
        heads=arguments.optional("num_heads", HEADS),
        mlp_ratio=arguments.take("mlp_ratio"),
        modulator=arguments.take("modulator"),
        shift=arguments.take("shift_flag"),
        image_size=arguments.take("img_size"),
    )
    taps = {
        "input_proj": Tap("input_proj", _flatten),
        "output_proj": Tap("output_proj"),
        "conv": Tap("stages.4", to_tokens),
    }
    for i in range(4):
        taps |= {f"dowsample_{i}": Tap(f"downs.{i}", _flatten), f"upsample_{i}": Tap(f"ups.{i}", _flatten)}
        taps |= {f"encoderlayer_{i}": Tap(f"stages.{i}", to_tokens)}
        taps |= {f"decoderlayer_{i}": Tap(f"stages.{5 + i}", to_tokens)}
    return Built(network, map_uformer, (fixture.normalised(),), taps)


def _flatten(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.flatten(2).transpose(1, 2)

"""Swin Transformer."""

from __future__ import annotations

from dehaze_bench.models.backbones.swin import Swin
from dehaze_bench.verify.built import Built, Tap, to_tokens
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.swin import map_swin


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    arguments.expect("norm", "LayerNorm eps 1e-5")
    arguments.expect("ape", False)
    depths = arguments.take("depths")
    network = Swin(
        dim=arguments.take("dims"),
        depths=depths,
        heads=arguments.take("heads"),
        window=arguments.take("window"),
        mlp_ratio=arguments.take("mlp_ratio"),
        patch=arguments.take("patch"),
        image_size=arguments.take("img_size"),
        qkv_bias=arguments.take("qkv_bias"),
        num_classes=arguments.take("classes"),
    )
    taps = {"stem": Tap("patch_embed.norm", to_tokens)}
    taps |= {f"stage{i + 1}": Tap(f"layers.{i}", to_tokens) for i in range(len(depths))}
    taps |= {f"block{i}": Tap(f"layers.0.blocks.{i}", to_tokens) for i in range(depths[0])}
    return Built(network, map_swin, (fixture.image(),), taps)

"""Vision-RWKV."""

from __future__ import annotations

from dehaze_bench.models.backbones.vrwkv import VRWKV
from dehaze_bench.verify.built import Built, Tap, to_tokens
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.vrwkv import map_vrwkv


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes; layer scales are loaded, so their start does not matter."""
    norm = arguments.expect(
        "norm",
        "pre, LayerNorm eps 1e-5",
        "pre",
        "post with layer scale gamma1, gamma2",
        "post with layer scale",
    )
    arguments.expect("shift", "quarter of the channels in each of four directions, distance 1")
    arguments.expect("pool", "mean over the map, then head.fc (our wrapper)")
    arguments.optional("released", "yes")
    depth = arguments.take("depth")
    network = VRWKV(
        dim=arguments.take("dim"),
        depth=depth,
        hidden_rate=arguments.take("hidden_rate"),
        layer_scale=None if norm.startswith("pre") else 1.0,
        key_norm=arguments.optional("key_norm", False),
        patch=arguments.take("patch"),
        image_size=arguments.take("img_size"),
        head_hidden=arguments.optional("head_hidden", None),
        num_classes=arguments.take("classes"),
    )
    taps = {"stem": Tap("patch_embed", to_tokens), "norm": Tap("ln1")}
    taps |= {f"att{i}": Tap(f"layers.{i}.att") for i in range(depth)}
    taps |= {f"layer{i}": Tap(f"layers.{i}") for i in range(depth)}
    return Built(network, map_vrwkv, (fixture.image(),), taps)

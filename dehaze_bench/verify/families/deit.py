"""DeiT."""

from __future__ import annotations

from dehaze_bench.models.backbones.deit import DeiT
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.deit import map_deit


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes; the unfused form, whose numbers are the published code's."""
    arguments.expect("norm", "LayerNorm eps 1e-6")
    arguments.expect("class_token", "first", "first, then the distillation token")
    depth = arguments.take("depth")
    network = DeiT(
        dim=arguments.take("dim"),
        depth=depth,
        heads=arguments.take("heads"),
        mlp_ratio=arguments.take("mlp_ratio"),
        patch=arguments.take("patch"),
        image_size=arguments.take("img_size"),
        qkv_bias=arguments.take("qkv_bias"),
        distilled=bool(arguments.optional("distilled", "dist_token" in fixture.field("shapes"))),
        num_classes=arguments.take("classes"),
        fused=False,
    )
    taps = {
        "stem": Tap("patch_embed", lambda x: x.flatten(1, 2)),
        "norm": Tap("norm"),
        **{f"block{i}": Tap(f"blocks.{i}") for i in range(depth)},
    }
    return Built(network, map_deit, (fixture.image(),), taps)

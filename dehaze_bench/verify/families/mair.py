"""MaIR, the U-shaped builds."""

from __future__ import annotations

from dehaze_bench.models.restorers.mair import MaIR
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.families.four_levels import level_taps, take_skeleton
from dehaze_bench.verify.families.residual_groups import picture_to_tokens
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.mair import map_mair


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    for name in ("img_size", "batch_size", "dynamic_ids"):  # when published orders are made, not which
        arguments.optional(name, None)
    network = MaIR(
        **take_skeleton(arguments),
        ratio=arguments.optional("ssm_ratio", 1.5),
        mlp_ratio=arguments.optional("mlp_ratio", 2.0),
        first_mlp_ratio=arguments.optional("flp_ratio", 2.0),
        stripe=arguments.optional("scan_len", 8),
        drop_path=arguments.optional("drop_path_rate", 0.0),
    )
    taps = level_taps(picture_to_tokens) | {"mixer0": Tap("encoder_level1.0.self_attention")}
    return Built(network, map_mair, (fixture.image(),), taps)

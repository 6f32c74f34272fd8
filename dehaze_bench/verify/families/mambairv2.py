"""MambaIRv2, which fixtures can pin without the noise of its routing alone."""

from __future__ import annotations

from dehaze_bench.models.restorers.mambairv2 import MambaIRv2
from dehaze_bench.verify.built import Built, Tap, to_tokens
from dehaze_bench.verify.families.residual_groups import group_taps, take_frame
from dehaze_bench.verify.families.vss import allow
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.mambairv2 import map_mambairv2


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes.

    The light build has the arguments of the other ones, and another feed-forward layer: its tensors tell it apart.
    """
    frame = take_frame(arguments)
    allow(arguments, "ape", False)
    network = MambaIRv2(
        **frame,
        heads=arguments.take("num_heads"),
        d_state=arguments.take("d_state"),
        window=arguments.take("window_size"),
        rank=arguments.take("inner_rank"),
        prompts=arguments.take("num_tokens"),
        kernel=arguments.take("convffn_kernel_size"),
        expand=arguments.take("mlp_ratio"),
        qkv_bias=arguments.optional("qkv_bias", True),
        light=any(".sg." in name for name in fixture.field("shapes")),
    )
    parts = {"assm": Tap("assm", to_tokens), "winattn": Tap("win_mhsa")}
    return Built(network, map_mambairv2, (fixture.image(),), group_taps(frame["depths"], parts))

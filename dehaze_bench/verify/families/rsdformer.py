"""RSDformer."""

from __future__ import annotations

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.rsdformer import RSDformer
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.families.four_levels import take_norm
from dehaze_bench.verify.families.vss import allow
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.rsdformer import map_rsdformer

PARTS = ("patch_embed", "encoder_level1", "down1_2", "encoder_level2", "down2_3", "encoder_level3", "up3_2",
         "decoder_level2", "up2_1", "decoder_level1", "refinement", "output")  # fmt: skip
TAPS = {name: Tap(name) for name in PARTS} | {"DGFB1": Tap("gate_level2"), "DGFB2": Tap("gate_level1")}
LEVELS = 3


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes; what it says of a fourth level is not built by anyone."""
    arguments.optional("published", "")
    allow(arguments, "inp_channels", 3)
    allow(arguments, "out_channels", 3)
    dims = list(arguments.take("dim"))[:LEVELS]
    if dims != [dims[0] * 2**level for level in range(LEVELS)]:
        raise UsageError(f"{fixture.path}: dim={dims} is not supported, only channels that double from level to level.")
    network = RSDformer(
        dim=dims[0],
        depths=list(arguments.take("num_blocks"))[:LEVELS],
        heads=list(arguments.take("heads"))[:LEVELS],
        expansion=arguments.optional("ffn_expansion_factor", 3),
        bias=arguments.optional("bias", False),
        norm=take_norm(arguments),
    )
    return Built(network, map_rsdformer, (fixture.normalised(),), TAPS)

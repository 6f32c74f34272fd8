"""Restore-RWKV."""

from __future__ import annotations

from functools import partial

from dehaze_bench.models.restorers.restore_rwkv import RestoreRWKV, rows_and_columns
from dehaze_bench.scans import Scan
from dehaze_bench.verify.built import Built, Tap, to_tokens
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.restore_rwkv import map_restore_rwkv


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes, with the branches of its shifts."""
    arguments.optional("published", None)  # the released size, in words
    turns = arguments.optional("recurrence", 2)
    network = RestoreRWKV(
        dim=arguments.take("dim"),
        depths=arguments.take("num_blocks"),
        refinement=arguments.take("num_refinement_blocks"),
        hidden_rate=arguments.optional("hidden_rate", 4),
        in_channels=arguments.take("inp_channels"),
        out_channels=arguments.take("out_channels"),
        scan=Scan("rows_and_columns", partial(rows_and_columns, turns=turns)),
    )
    taps = {name: Tap(name) for name, _ in network.named_children()}
    taps |= {"stem": Tap("patch_embed"), "mix0": Tap("encoder_level1.0.att", to_tokens)}
    return Built(network, map_restore_rwkv, (fixture.image(),), taps)

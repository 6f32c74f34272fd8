"""LocalVim, whole or its mixer alone."""

from __future__ import annotations

from functools import partial

from dehaze_bench.models.backbones.localvim import LocalVim
from dehaze_bench.nn.branched import Branched
from dehaze_bench.scans import Scan
from dehaze_bench.scans.windows import local
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.families.branches import column_taps, refuse, take_column, take_mixer, take_place, take_words
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.localvim import map_localvim

ROTARY = {"applied to hidden state and residual before every layer": True, "none": False}
POOLS = {"mean over tokens": False, "mean": False, "the class token, no mean": True, "class token": True}
REMARKS = ("left out of the permutation", "put back in the middle of every scanned sequence")


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network, or for a `d_model` the mixer, that the fixture describes."""
    place = take_place(arguments, *REMARKS)
    directions = arguments.take("directions")
    if "d_model" in arguments.left:
        grid = tuple(arguments.take("grid"))
        scan = Scan("local", partial(local, directions=tuple(directions)), "attention")
        mixer = Branched(arguments.take("d_model"), scan, **take_mixer(arguments), class_token=place, mirrored=False)
        attention = {
            f"attn{k}": Tap("merge.attn", lambda x, k=k: x.unflatten(0, (-1, len(directions)))[:, k])  # type: ignore[misc]
            for k in range(len(directions))
        }
        return Built(mixer, map_localvim, (fixture.image(),), attention, lambda x: mixer(x, grid))
    sizes = take_column(arguments)
    rotary = take_words(arguments, "rope", ROTARY)
    if take_words(arguments, "pool", POOLS) != (place != "none"):
        raise refuse(arguments, "class_token", place, "the one that pool names")
    network = LocalVim(**sizes, directions=directions, class_token=place, rotary=rotary)
    return Built(network, map_localvim, (fixture.image(),), column_taps(sizes["depth"]))

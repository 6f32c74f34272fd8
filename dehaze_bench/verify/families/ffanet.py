"""FFA-Net, and what the fixtures of its layout have in common."""

from __future__ import annotations

from typing import Any

from dehaze_bench.models.restorers.ffanet import FFANet
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.ffanet import map_ffanet


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes; its published mapping is called on a normalised image."""
    network = FFANet(**take_sizes(arguments))
    return Built(network, map_ffanet, (fixture.normalised(),), group_taps(), network.restore)


def take_sizes(arguments: BuildArguments) -> dict[str, Any]:
    """Return channels and blocks; "published" is a remark on the size that was released."""
    arguments.expect("gps", 3)
    arguments.optional("published", "")
    return {"dim": arguments.optional("dim", 64), "blocks": arguments.take("blocks")}


def group_taps() -> dict[str, Tap]:
    """Return where the arrays are."""
    found = {f"g{i}": Tap(f"groups.{i - 1}") for i in (1, 2, 3)}
    found |= {name: Tap(name) for name in ("pre", "ca", "post")}
    return {**found, "palayer": Tap("local"), "pdu": Tap("local")}

"""ZigMa, without conditions."""

from __future__ import annotations

import re
from functools import partial

import torch

from dehaze_bench.models.backbones.zigma import ZigMa
from dehaze_bench.scans import Scan, curves, hilbert, planar
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.families.branches import refuse
from dehaze_bench.verify.families.vss import allow
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.zigma import map_zigma

ORDERS = {"zigzag": curves.zigzag, "hilbert": hilbert.hilbert_zigma}


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    allow(arguments, "norm", "RMSNorm eps 1e-5", "RMSNorm")
    arguments.expect("text", False)
    arguments.expect("classes", 0)
    depth = arguments.take("depth")
    mixer = {
        name: arguments.optional(name, default) for name, default in (("d_state", 16), ("d_conv", 4), ("expand", 2))
    }
    network = ZigMa(
        channels=arguments.take("in_channels"),
        dim=arguments.take("dim"),
        depth=depth,
        patch=arguments.take("patch"),
        image_size=arguments.take("img_dim"),
        position=arguments.expect("position", "learned", "none"),
        scan=_take_scan(arguments),
        **mixer,
    )
    taps = {"t_embedder": Tap("time"), "blocklast": Tap(f"layers.{depth - 1}")}
    for i in range(depth):
        taps |= {f"mixer{i}": Tap(f"layers.{i}.mixer.mixer"), f"block{i}": Tap(f"layers.{i}")}
    image = fixture.image()
    return Built(network, map_zigma, (image, torch.full((image.shape[0],), _time(fixture))), taps)


def _take_scan(arguments: BuildArguments) -> Scan:
    value = arguments.take("scan_type")
    if value in ("v1", "v2"):
        return Scan(str(value), planar.raster if value == "v1" else planar.bidirectional, "sum")
    found = re.fullmatch(r"(zigzag|hilbert)N([1-8])", str(value))
    if found is None:
        raise refuse(arguments, "scan_type", value, "zigzagN1 to 8, hilbertN1 to 8, v1 and v2")
    return Scan(str(value), partial(ORDERS[found[1]], routes=int(found[2])), "sum", mode="alternate")


def _time(fixture: Fixture) -> float:
    words = str(fixture.field("input").get("t", ""))
    found = re.match(r"(\d*\.?\d+)( for every sample|$)", words)
    return float(found[1]) if found else 0.0

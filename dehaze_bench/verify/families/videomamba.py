"""VideoMamba, over pictures and over videos."""

from __future__ import annotations

import torch
from torch import Tensor

from dehaze_bench.models.backbones.videomamba import VideoMamba
from dehaze_bench.scans import Scan, planar, volume
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.families.branches import column_taps, refuse, take_column, take_matching, take_place
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.videomamba import map_videomamba

ORDERS = {
    r"(class token, then )?(frame by frame|spatial.first)(, raster inside a frame)?": planar.bidirectional,
    r"(class token, then )?(position by position|temporal.first)(, .*frames?.*)?": volume.temporal_first,
}
MERGES = {r"forward \+ backward, sum( \(no division\))?": "sum", r"forward \+ backward, mean": "mean"}


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    sizes = take_column(arguments)
    frames = arguments.take("num_frames")
    place = take_place(arguments)
    if place != "first":
        raise refuse(arguments, "class_token", place, "first")
    scan = Scan(
        "published", take_matching(arguments, "token_order", ORDERS), take_matching(arguments, "directions", MERGES)
    )
    network = VideoMamba(**sizes, frames=frames, scan=scan)
    taps = column_taps(sizes["depth"])
    if frames:

        def to_volume(x_NHWC: Tensor) -> Tensor:
            return torch.movedim(x_NHWC.unflatten(0, (-1, fixture.image().shape[2])), -1, 1)

        taps["stem"] = Tap("tokens.patch_embed", to_volume)
    return Built(network, map_videomamba, (fixture.image(),), taps)

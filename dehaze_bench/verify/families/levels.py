"""What the checks of the DehazeFormer line share: its arguments, and where its arrays are computed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.verify.built import Tap
from dehaze_bench.verify.families.vss import allow
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.levels import rename

CONVOLUTIONS = {"DWConv": "depthwise", "Conv": "full"}
OUTPUT = re.compile(r"output of submodule (\S+)")

Sizes = Mapping[str, Mapping[str, Any]]


def take_size(arguments: BuildArguments, sizes: Sizes) -> dict[str, Any]:
    """Return our arguments of the published size that "factory" names, or none; "published" is a remark."""
    arguments.optional("published", "")
    name = str(arguments.optional("factory", ""))
    known = name.removesuffix("()").lower().replace("-", "_")
    if known and known not in sizes:
        raise UsageError(f"{arguments.fixture.path}: there is no published size '{name}'. {nearest(known, sizes)}")
    return dict(sizes[known]) if known else {}


def take_given(arguments: BuildArguments, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments that are given, under our names for the published ones."""
    return {ours: arguments.take(name) for name, ours in names.items() if name in arguments.left}


def take_scales(arguments: BuildArguments) -> dict[str, Any]:
    """Return depths, and channels per scale for `embed_dims` per stage; colours in, K and B out."""
    allow(arguments, "in_chans", 3)
    allow(arguments, "out_chans", 4)
    found = take_given(arguments, {"depths": "depths", "embed_dims": "dims"})
    if "dims" in found:
        dims = list(found["dims"])
        if dims != dims[::-1] or len(dims) % 2 == 0:
            raise UsageError(
                f"{arguments.fixture.path}: build argument embed_dims={dims} is not supported, only as many channels "
                "on the way up as on the way down."
            )
        found["dims"] = dims[: len(dims) // 2 + 1]
    return found


def take_attention(arguments: BuildArguments, ratios: str) -> dict[str, Any]:
    """Return what DehazeFormer and ED-Former take; `ratios` is their name for the width of the feed-forward layers."""
    found = take_scales(arguments)
    names = {"num_heads": "heads", "attn_ratio": "attention", "window_size": "window", ratios: "mlp_ratios"}
    found |= take_given(arguments, names)
    if "conv_type" in arguments.left:
        given: Sequence[str] = arguments.take("conv_type")
        for kind in given:
            if kind not in CONVOLUTIONS:
                known = " or ".join(CONVOLUTIONS)
                raise UsageError(f"{arguments.fixture.path}: conv_type {kind!r} is not supported, only {known}.")
        found["convolutions"] = [CONVOLUTIONS[kind] for kind in given]
    norms = arguments.optional("norm_layer", "RLN")
    if set([norms] if isinstance(norms, str) else norms) != {"RLN"}:
        raise UsageError(f"{arguments.fixture.path}: build argument norm_layer={norms!r} is not supported, only RLN.")
    allow(arguments, "attn_loc", "last")
    return found


def level_taps(fixture: Fixture, parts: Mapping[str, str]) -> dict[str, Tap]:
    """Return where the arrays of a fixture are: where the submodule is that its spec names."""
    found = {array: OUTPUT.match(fixture.describe(array)) for array in fixture.arrays}
    return {array: Tap(rename(match[1], parts)) for array, match in found.items() if match is not None}

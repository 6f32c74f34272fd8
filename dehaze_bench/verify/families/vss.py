"""What the fixtures of VMamba and its descendants share: the wordings of their arguments and where arrays are found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from dehaze_bench.errors import UsageError
from dehaze_bench.verify.built import Tap, to_channels_first
from dehaze_bench.verify.fixture import BuildArguments

STEMS = {1: "patch", 2: "conv"}
DOWNSAMPLINGS = {1: "merge", 2: "conv2", 3: "conv3"}


def taps(depths: Sequence[int], channels_first: bool) -> dict[str, Tap]:
    """Return where the arrays of a whole network are: the stem, operators and blocks by number, stages from 1 on."""
    change = to_channels_first if channels_first else None
    found = {"stem": Tap("patch_embed", change)}
    number = 0
    for stage, depth in enumerate(depths):
        for block in range(depth):
            found[f"op{number}"] = Tap(f"layers.{stage}.blocks.{block}.op", change)
            found[f"block{number}"] = Tap(f"layers.{stage}.blocks.{block}", change)
            number += 1
        found[f"stage{stage + 1}"] = Tap(f"layers.{stage}.downsample", change)
    return found


def take_rank(arguments: BuildArguments) -> int | None:
    """Return the rank of the step size: a number, or None for the rule that all of them have."""
    rank = arguments.optional("dt_rank", "auto")
    if isinstance(rank, int) and not isinstance(rank, bool):
        return rank
    if rank not in ("auto", "ceil(dim/16)", "ceil(d_model/16)"):
        raise UsageError(
            f"{arguments.fixture.path}: build argument dt_rank={rank!r} is not supported, only ceil(dim/16)"
        )
    return None


def take_norm(arguments: BuildArguments, extra: str = "") -> bool:
    """Return whether the network is channels-first; its norms are LayerNorm with eps 1e-5, followed by `extra`."""
    value = str(arguments.take("norm"))
    words = re.sub("[,;]", "", value).lower().removesuffix(extra)
    first = words.startswith("channels-first ")
    if words.removeprefix("channels-first ") not in ("layernorm eps 1e-5", "layernorm"):
        raise UsageError(
            f"{arguments.fixture.path}: build argument norm={value!r} is not supported, only LayerNorm with eps 1e-5"
        )
    return first


def take_version(arguments: BuildArguments, name: str, known: dict[int, str], default: int) -> str:
    """Return what "v1", "v2 (remark)" stands for."""
    value = arguments.optional(name, f"v{default}")
    number = re.match(r"v(\d)\b", str(value))
    if number is None or int(number[1]) not in known:
        choices = ", ".join(f"v{version} ({what})" for version, what in known.items())
        raise UsageError(f"{arguments.fixture.path}: build argument {name}={value!r} is not supported, only {choices}")
    return known[int(number[1])]


def allow(arguments: BuildArguments, name: str, *supported: Any) -> None:
    """Check an argument that need not be there."""
    if name in arguments.left:
        arguments.expect(name, *supported)


def take_frame(arguments: BuildArguments) -> dict[str, Any]:
    """Return the arguments that every network of the family has: sizes, classes; the rest is checked.

    "factory" names the published function that was called; what it sets is in the other arguments.
    """
    arguments.expect("patch", 4)
    arguments.optional("factory", "")
    return {
        "depths": arguments.take("depths"),
        "dims": arguments.take("dims"),
        "d_state": arguments.take("d_state"),
        "ratio": arguments.take("ssm_ratio"),
        "dt_rank": take_rank(arguments),
        "num_classes": arguments.take("classes"),
    }

"""What the fixtures of Vim and its descendants share: the wordings of their arguments and where arrays are found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dehaze_bench.errors import UsageError
from dehaze_bench.verify.built import Tap, to_tokens
from dehaze_bench.verify.families.vss import allow, take_rank
from dehaze_bench.verify.fixture import BuildArguments


def refuse(arguments: BuildArguments, name: str, value: Any, supported: str) -> UsageError:
    """Return the error of an argument whose value is not understood."""
    return UsageError(f"{arguments.fixture.path}: build argument {name}={value!r} is not supported, only {supported}")


def take_mixer(arguments: BuildArguments) -> dict[str, Any]:
    """Return the sizes of the mixers."""
    return {name: arguments.take(name) for name in ("d_state", "d_conv", "expand")}


def take_column(arguments: BuildArguments) -> dict[str, Any]:
    """Return the arguments that all plain networks have; the norm is checked.

    "factory" names the published function that was called; what it sets is in the other arguments.
    """
    arguments.optional("factory", "")
    allow(arguments, "norm", "RMSNorm eps 1e-5", "RMSNorm, eps 1e-5", "RMSNorm")
    if take_rank(arguments) is not None:
        raise refuse(arguments, "dt_rank", "a number", "ceil(dim/16)")
    return {
        **take_mixer(arguments),
        "dim": arguments.take("dim"),
        "depth": arguments.take("depth"),
        "patch": arguments.take("patch"),
        "image_size": arguments.take("img_size"),
        "num_classes": arguments.take("classes"),
    }


def column_taps(depth: int) -> dict[str, Tap]:
    """Return where the arrays of a plain network are."""
    found = {"stem": Tap("tokens.patch_embed", to_tokens), "norm_f": Tap("norm_f")}
    for i in range(depth):
        found |= {f"mixer{i}": Tap(f"layers.{i}.mixer"), f"layer{i}": Tap(f"layers.{i}")}
    return found


def take_place(arguments: BuildArguments, *remarks: str) -> str:
    """Return where the class token is from words such as "first" or "inserted at index tokens//2; ...".

    What follows must be one of the `remarks`, which say what the network does with it.
    """
    value = arguments.optional("class_token", None)
    place, *rest = re.split(r"[;,] *", str(value).lower())
    known = {"none": "none", "false": "none", "first": "first", "inserted at index 0": "first", "middle": "middle"}
    known["inserted at index tokens//2"] = "middle"
    if place not in known or not set(rest) <= set(remarks):
        raise refuse(arguments, "class_token", value, "; ".join([*known, *remarks]))
    return known[place]


def take_words(arguments: BuildArguments, name: str, meanings: Mapping[str, Any]) -> Any:
    """Return what the words of an argument mean."""
    value = arguments.take(name)
    words = " ".join(str(value).lower().split())
    if words not in meanings:
        raise refuse(arguments, name, value, "; ".join(meanings))
    return meanings[words]


def take_matching(arguments: BuildArguments, name: str, meanings: Mapping[str, Any]) -> Any:
    """Return what the words of an argument mean, by the pattern that they match."""
    value = arguments.take(name)
    for pattern, meaning in meanings.items():
        if re.fullmatch(pattern, str(value).lower()):
            return meaning
    raise refuse(arguments, name, value, "; ".join(meanings))

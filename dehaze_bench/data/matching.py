"""Which clear picture belongs to a hazy one: rules over file names without their suffix."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from dehaze_bench.data.known import CLEAR_ENDINGS, HAZY_ENDINGS
from dehaze_bench.data.video_folders import video_of
from dehaze_bench.errors import UsageError, nearest

_T = TypeVar("_T")
MATCHES = {
    "equal": "clear name = hazy name",
    "prefix": "clear name = hazy name up to its first underscore",
    "ending": "clear name = hazy name with another ending (01_hazy, 01_GT)",
    "video": "clear frame = hazy frame of the video without its airlight and beta (bear_239_0.005, bear)",
    "auto": "equal names, else the prefix rule, else the endings, else the rule of videos",
}


def check_rule(name: str, match: str) -> None:
    """Raise UsageError for a rule that is neither one of `MATCHES` nor a pattern HAZY:CLEAR with one star in each."""
    if "*" not in match:
        choose(name, "match", match, MATCHES)
    elif not re.fullmatch(r"[^*:]*\*[^*:]*:[^*:]*\*[^*:]*", match):
        raise UsageError(
            f"{name}: match={match} is no rule: write HAZY:CLEAR with one star in each, such as *_hazy:*_GT."
        )


def pair(names: Sequence[str], clear_files: Mapping[str, Path], match: str) -> tuple[str, list[Path | None]]:
    """Return the rule that pairs all names, or the last one tried that an error can explain, and the partners."""
    rules = ["equal", "prefix", "ending", "video"] if match == "auto" else [match]
    tried = {}
    for rule in rules:
        index = {_key(rule, stem, clear=True): path for stem, path in clear_files.items()}
        tried[rule] = [index.get(_key(rule, name, clear=False)) for name in names]
        if None not in tried[rule]:
            return rule, tried[rule]
    if match == "auto":  # the rule that misses fewest; of equals the prefix rule, which most sets follow
        rule = min(("prefix", "ending", "equal", "video"), key=lambda r: tried[r].count(None))
    return rule, tried[rule]


def _key(rule: str, stem: str, clear: bool) -> str:
    if rule == "prefix":
        return stem if clear else stem.split("_", 1)[0]
    if rule == "ending":
        for ending in CLEAR_ENDINGS if clear else HAZY_ENDINGS:
            if stem.endswith(ending):
                return stem[: -len(ending)]
        return stem
    if rule == "video":
        folder, _, frame = stem.rpartition("/")
        return stem if clear or not folder else f"{video_of(stem)}/{frame}"
    if "*" in rule:
        before, after = rule.split(":")[clear].split("*")
        fits = stem.startswith(before) and stem.endswith(after) and len(stem) > len(before) + len(after)
        return stem[len(before) : len(stem) - len(after)] if fits else f"\0{stem}{clear}"
    return stem


def expected_partner(rule: str, name: str) -> str:
    """Return the stem of the clear picture that a rule asks for, for messages."""
    key = _key(rule, name, clear=False)
    if rule == "ending":
        return f"{key}{CLEAR_ENDINGS[0]}"
    return rule.split(":")[1].replace("*", key) if "*" in rule and not key.startswith("\0") else key.strip("\0")


def choose(name: str, field: str, value: str, choices: Mapping[str, _T]) -> _T:
    """Return the choice of that name; UsageError with the nearest one."""
    if value not in choices:
        raise UsageError(f"{name}: {field}={value} is not known. {nearest(value, choices)}")
    return choices[value]

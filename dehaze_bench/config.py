"""What a run is: the typed schema of its config, its identity, and the checks that need no tensor.

A config has two halves. The scientific half decides the numbers and so the identity of the run; the operational
half (`runtime`, `track`, `paths`) decides where and how they are made. The one exception is `runtime.precision`:
it changes numbers, so it counts for the identity.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.targets import locate

# Raise this when a change is meant to alter the numbers of existing configs: old results are then not reused.
NUMERICS = 2

OPERATIONAL = ("runtime", "track", "paths")
# Where files lie on this machine says nothing about the experiment.
LOCATION_KEYS = frozenset({"root", "cache_dir", "cache_scenes", "encoder_weights", "features"})
# Keys that came later than runs that lack them: with this value a config is the one without the key.
NEUTRAL: dict[str, Any] = {
    "exclude_test_scenes": False,
    "nonfinite": "stop",
    "max_skipped": 10,
    "edge_decay": 0.0,
    "mixup": None,
    "haze_on": "workers",
}
# Keys of a group that build.py reads and the class does not. Of a file of weights its sha256 counts, which compose.py
# adds, not its place.
BUILD_KEYS = {
    "model": frozenset({"match", "encoder_weights", "encoder_sha256"}),
    "loss": frozenset({"features_sha256"}),
}
SELECTIONS = ("last", "best@val", "best@test")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
NONFINITE = ("stop", "skip")
AUGMENTATIONS = ("flip", "rot90")
# Groups whose node is made into an object, or left alone where the choice is a mere name (`scan=native`).
GROUPS = ("model", "scan", "dataset", "testset", "optimizer", "schedule", "loss", "protocol", "track")
SEED_LIMIT = 2**63
SLUG_BYTES = 200


@dataclass
class Train:
    """How long and on what: lengths in optimiser steps, sizes in images and pixels."""

    steps: int = MISSING
    batch: int = MISSING
    crop: int = MISSING
    accumulate: int = MISSING
    clip: float | None = None
    ema: float | None = None
    augment: list[str] = field(default_factory=list)
    edge_decay: float = 0.0
    mixup: float | None = None
    select: str = MISSING
    eval_every: int | None = None
    val_images: int = MISSING
    nonfinite: str = "stop"
    max_skipped: int = 10


@dataclass
class Runtime:
    """Where and how a run is executed; of these only `precision` may change a number.

    `isolate` gives each row of a sweep a process of its own, `timeout` is the minutes that a row of a sweep may take.
    """

    device: str = MISSING
    threads: int | None = None
    workers: int = MISSING
    precision: str = MISSING
    deterministic: bool = MISSING
    log_every: int = MISSING
    save_every: int = MISSING
    keep_every: int | None = None
    keep: int = 3
    compile: bool = False
    channels_last: bool = False
    checkpointing: bool = False
    isolate: bool = True
    timeout: float | None = None


@dataclass
class Paths:
    """Folders: runs are made under `runs`, tables under `tables`; data sets and published weights are looked for."""

    runs: str = MISSING
    tables: str = MISSING
    data: str = MISSING
    weights: str = MISSING


@dataclass
class Config:
    """The schema of one run; groups are open nodes that `check` binds to the signature of their `_target_`."""

    model: Any = MISSING
    scan: Any = MISSING
    dataset: Any = MISSING
    testset: Any = MISSING
    optimizer: Any = MISSING
    schedule: Any = MISSING
    loss: Any = MISSING
    protocol: Any = MISSING
    runtime: Runtime = field(default_factory=Runtime)
    track: Any = MISSING
    recipe: Any = None
    seed: int = MISSING
    weights: str | None = None
    train: Train = field(default_factory=Train)
    paths: Paths = field(default_factory=Paths)


SECTIONS: dict[str, type] = {"train": Train, "runtime": Runtime, "paths": Paths}


@dataclass(frozen=True)
class Identity:
    """Who a run is: a short hash of its scientific half and a readable slug; `name` is its directory."""

    id: str
    slug: str

    @property
    def name(self) -> str:
        return f"{self.slug}-{self.id}"


def scientific(cfg: DictConfig) -> dict[str, Any]:
    """Return the half of the config that decides the numbers, as plain resolved data without machine paths."""
    plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    half = {str(k): _without_locations(v) for k, v in plain.items() if k not in OPERATIONAL}
    half["precision"] = plain["runtime"]["precision"]
    return half


def identify(half: dict[str, Any], choices: dict[str, str], verb: str = "train") -> Identity:
    """Return the identity of a scientific half: SHA-256 of its canonical JSON together with `NUMERICS`."""
    text = json.dumps({"verb": verb, "numerics": NUMERICS, "config": half}, sort_keys=True, allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    named = [choices.get(group) for group in ("model", "model/mixer", "model/backbone", "scan")]
    parts = [part for part in named if part and part not in ("native", "null")]
    parts.append(choices.get("dataset", "data") if verb == "train" else f"eval-{choices.get('testset', 'test')}")
    # A file name holds 255 bytes at most; names of a user's own files may be as long.
    slug = "-".join(parts).replace("/", "-").encode()[:SLUG_BYTES].decode(errors="ignore")
    return Identity(id=digest, slug=slug)


def _without_locations(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in LOCATION_KEYS and not (k in NEUTRAL and v == NEUTRAL[k])}
        return {k: _without_locations(v) for k, v in kept.items()}
    if isinstance(value, list):
        return [_without_locations(item) for item in value]
    return value


def check(cfg: DictConfig) -> None:
    """Raise one `UsageError` for the first thing that cannot be right; nothing is built and nothing written.

    Checked are unknown keys (also those added by `+` and `++`), the arguments of every `_target_` against its
    signature, and the ranges of plain values. Whether model, scan and sizes fit together is for `build.check`.
    """
    check_keys(cfg)
    for group in GROUPS:
        node = cfg[group]
        if not isinstance(node, DictConfig):
            raise UsageError(f"'{group}={node}' is no config: choose one of `dehaze-bench ls {group}`.")
        name = str(node.get("name", ""))
        if name.startswith(".") or "/" in name or "\\" in name or not name.isprintable():
            raise UsageError(f"{group}.name={name!r} becomes part of file names: leave out slashes and leading dots.")
        if "_target_" in node:
            _check_target(node, group, allowed=BUILD_KEYS.get(group, frozenset()))
            continue
        if "name" not in node:
            raise UsageError(f"No value for '{group}._target_': choose one of `dehaze-bench ls {group}`.")
        for key in node:
            if key != "name":
                raise UsageError(f"Unknown key '{group}.{key!s}': {group}={node.name} takes no arguments.")
    _check_values(cfg)


def check_keys(cfg: DictConfig) -> None:
    """Raise `UsageError` for a key that the schema does not know or a value that is missing."""
    _check_keys(cfg, Config, "")
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UsageError(f"No value for '{missing[0]}': give one, for example {missing[0]}=...")


def _check_keys(node: DictConfig, schema: type, prefix: str) -> None:
    known = {f.name: f for f in fields(schema)}
    for key in node:
        if key not in known:
            raise UsageError(f"Unknown key '{prefix}{key!s}'. {nearest(str(key), known)}")
    for name in known:
        if name not in node and not OmegaConf.is_missing(node, name):
            raise UsageError(f"No value for '{prefix}{name}', which every run needs: leave out ~{prefix}{name}.")
        if not prefix and name in SECTIONS:
            _check_keys(node[name], SECTIONS[name], f"{name}.")


def describe_type(key: str) -> str | None:
    """Return what the schema expects at a dotted key in words, or None for a key without a fixed type."""
    section, _, name = key.rpartition(".")
    schema = Config if not section else SECTIONS.get(section)
    hint = typing.get_type_hints(schema).get(name) if schema is not None else None
    return None if hint is None or hint is Any or hint in SECTIONS.values() else _in_words(hint)


def parameters_of(target: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters that a config may give to a target; empty for a builtin without a signature."""
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}


def _check_target(node: DictConfig, path: str, allowed: frozenset[str] = frozenset()) -> None:
    target = locate(str(node["_target_"]), path)
    parameters = parameters_of(target)
    if not parameters and not inspect.isclass(target):
        return
    hints = _hints(target)
    variable = {p.name for p in parameters.values() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    # A partial gets its first arguments from build.py: a mixer its channels, an optimiser its parameters.
    partial = bool(node.get("_partial_", False))
    given = {n for n, p in parameters.items() if partial and p.default is p.empty} | variable | {"scan"}
    for key, value in node.items():
        name = str(key)
        if (name.startswith("_") and name.endswith("_")) or name in allowed:
            continue
        if name not in parameters and not open_ended:
            raise UsageError(f"Unknown key '{path}.{name}'. {nearest(name, [*(parameters.keys() - given), *allowed])}")
        if isinstance(value, DictConfig) and "_target_" in value:
            _check_target(value, f"{path}.{name}")
        elif name in hints and not _accepts(hints[name], value):
            raise UsageError(f"{path}.{name}={value} is not {_in_words(hints[name])}.")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in node and name not in given:
            raise UsageError(f"No value for '{path}.{name}', which {node['_target_']} needs.")


def _hints(target: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError, AttributeError):  # names that only a type checker sees
        return {}


def _accepts(hint: Any, value: Any) -> bool:
    """Whether a plain value can stand for an annotation; annotations that say little accept everything."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, DictConfig) and "_target_" in value:
        return True  # what it makes is known when it is made
    if origin in (typing.Union, types.UnionType):
        return any(_accepts(part, value) for part in arguments)
    if hint is type(None):
        return value is None
    if hint in (int, float):
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    if origin in (list, tuple, Sequence):
        items = [part for part in arguments if part is not Ellipsis]
        fixed = origin is tuple and Ellipsis not in arguments
        if not isinstance(value, (ListConfig, list, tuple)) or (fixed and len(value) != len(items)):
            return False
        each = items if fixed else items[:1] * len(value)
        return all(_accepts(part, item) for part, item in zip(each, value, strict=True))
    # A tensor or a function has no plain form; of other annotations nothing is known.
    return origin is not Callable and not _is_tensor(hint)


def _is_tensor(hint: Any) -> bool:
    return getattr(hint, "__module__", "").split(".")[0] == "torch"


def _in_words(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    if hint in names:
        return names[hint]
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_in_words(part) for part in arguments if not _is_tensor(part)))
    if typing.get_origin(hint) in (list, tuple, Sequence):
        return "a list such as [a,b]" if str in arguments else "a list of numbers such as [1,2]"
    if typing.get_origin(hint) is Callable:
        return "a node with a _target_"
    return str(getattr(hint, "__name__", hint)).lower()


def _check_values(cfg: DictConfig) -> None:
    train, runtime = cfg.train, cfg.runtime
    for key, low in (("steps", 1), ("batch", 1), ("crop", 8), ("accumulate", 1), ("val_images", 0)):
        if train[key] < low:
            raise UsageError(f"train.{key}={train[key]} is too small: the least is {low}.")
    if train.batch % train.accumulate:
        raise UsageError(
            f"train.accumulate={train.accumulate} does not divide train.batch={train.batch}: the batch is the "
            f"global one and accumulation only slices it. Use a divisor of {train.batch}."
        )
    if train.eval_every is not None and train.eval_every < 1:
        raise UsageError(f"train.eval_every={train.eval_every} must be at least 1, or null for never.")
    if not 0 <= train.edge_decay <= 1:
        raise UsageError(
            f"train.edge_decay={train.edge_decay} must lie between 0 and 1, for example 0.1, as published."
        )
    if train.mixup is not None and train.mixup <= 0:
        raise UsageError(f"train.mixup={train.mixup} must be positive, for example 1.2, or null for no mixing.")
    if train.ema is not None and not 0 < train.ema < 1:
        raise UsageError(f"train.ema={train.ema} must lie between 0 and 1, for example 0.999.")
    if train.clip is not None and train.clip <= 0:
        raise UsageError(f"train.clip={train.clip} must be positive, or null for no clipping.")
    for key in ("log_every", "save_every", "keep_every", "keep"):
        if runtime[key] is not None and runtime[key] < 1:
            raise UsageError(f"runtime.{key}={runtime[key]} must be at least 1.")
    if runtime.compile and runtime.checkpointing:
        raise UsageError(
            "runtime.compile=true decides by itself what to compute again: leave out runtime.checkpointing."
        )
    if train.max_skipped < 1:
        raise UsageError(f"train.max_skipped={train.max_skipped} must be at least 1; train.nonfinite=stop skips none.")
    if not 0 <= cfg.seed < SEED_LIMIT:
        raise UsageError(f"seed={cfg.seed} is out of range: use a whole number from 0 up.")
    if runtime.threads is not None and runtime.threads < 1:
        raise UsageError(f"runtime.threads={runtime.threads} must be at least 1, or null for torch's own choice.")
    if runtime.timeout is not None and runtime.timeout <= 0:
        raise UsageError(f"runtime.timeout={runtime.timeout} must be a number of minutes, or null for no limit.")
    if runtime.timeout is not None and not runtime.isolate:
        raise UsageError("runtime.timeout ends a row's own process, which runtime.isolate=false takes away: drop one.")
    for key in SECTIONS["paths"].__annotations__:
        if not str(cfg.paths[key]).strip():
            raise UsageError(f"paths.{key} is empty: give a folder, or leave it out.")
    if runtime.workers < 0:
        raise UsageError(f"runtime.workers={runtime.workers} must be 0 or more.")
    _check_choice("train.select", train.select, SELECTIONS)
    _check_choice("runtime.precision", runtime.precision, PRECISIONS)
    _check_choice("train.nonfinite", train.nonfinite, NONFINITE)
    for item in train.augment:
        _check_choice("train.augment", item, AUGMENTATIONS)
    if train.select == "best@val" and train.val_images < 1:
        raise UsageError("train.select=best@val needs held-out training images: set train.val_images, for example 16.")
    if train.select != "last" and train.eval_every is None:
        raise UsageError(f"train.select={train.select} needs train.eval_every, the steps between evaluations.")


def _check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{key}={value} is unknown. {nearest(value, choices)}")

"""Overrides to one config: Hydra's composition with our search path and with errors that name the remedy.

Folders are searched in this order: `./conf` of the user, then the packaged one. Nothing is written.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dehaze_bench import targets
from dehaze_bench.config import SECTIONS, Config, Identity, describe_type, identify, parameters_of, scientific
from dehaze_bench.digest import hash_file
from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.registry import conf_dirs, list_choices, list_groups

ConfigStore.instance().store(name="schema", node=Config)

# Of files that runs read the content counts: group, key, and the key that keeps the hash.
FILES = (("model", "encoder_weights", "encoder_sha256"), ("loss", "features", "features_sha256"))


@dataclass(frozen=True)
class Composed:
    """One composed run: the config, and the file chosen in each group."""

    cfg: DictConfig
    choices: dict[str, str]
    overrides: tuple[str, ...]


class UserConf(SearchPathPlugin):
    """Put the user's `./conf` before the packaged tree."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in reversed(conf_dirs()[:-1]):
            search_path.prepend(provider="user", path=f"file://{folder}", anchor="main")


Plugins.instance().register(UserConf)


def compose_run(overrides: Sequence[str]) -> Composed:
    """Return the config of one run; raises `UsageError` naming the override that cannot be right."""
    parsed = parse(overrides)
    for override in parsed:
        _check_choice(override)
    with _hydra():
        try:
            whole = compose(config_name="config", overrides=list(overrides), return_hydra_config=True)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{mark.name}, line {mark.line + 1}" if mark else "A config file"
            raise UsageError(f"{where}: not valid YAML: {getattr(error, 'problem', error)}.") from error
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise UsageError(_explain(error, parsed)) from error
    choices = {str(k): str(v) for k, v in whole.hydra.runtime.choices.items() if not str(k).startswith("hydra/")}
    with open_dict(whole):
        del whole["hydra"]
        for group, key, digest in FILES:
            if isinstance(whole[group], DictConfig) and whole[group].get(key) is not None:
                whole[group][digest] = _hash_file(Path(whole[group][key]), f"{group}.{key}")
    try:
        plain = OmegaConf.to_container(whole, resolve=True)
    except OmegaConfBaseException as error:
        raise UsageError(_explain(error, parsed)) from error
    targets.check(plain, "")
    return Composed(cfg=whole, choices=choices, overrides=tuple(overrides))


def identify_run(composed: Composed) -> Identity:
    """Return who the run of a config is: a training, or the evaluation of a file of weights.

    Raises `UsageError` where that file is not there.
    """
    cfg = composed.cfg
    if cfg.weights is None:
        return identify(scientific(cfg), composed.choices)
    half = evaluated(cfg, _hash_file(find_weights(cfg), "weights"), int(cfg.seed))
    return identify(half | measured(cfg), composed.choices, verb="eval")


def evaluated(cfg: DictConfig, weights: str | None, seed: int) -> dict[str, Any]:
    """Return the part of the identity of an evaluation that says of what: `weights` is a run or the hash of a file."""
    whole = scientific(cfg)
    return {"model": whole["model"], "scan": whole["scan"], "weights": weights, "seed": seed}


def measured(cfg: DictConfig) -> dict[str, Any]:
    """Return the part of the identity of an evaluation that says how it is measured."""
    whole = scientific(cfg)
    return {key: whole[key] for key in ("testset", "protocol", "precision")}


def find_weights(cfg: DictConfig) -> Path:
    """Return the file of `cfg.weights`; raises `UsageError` where it is not there."""
    path = Path(cfg.weights)
    if not path.is_file():
        raise UsageError(f"weights={path} is not there. Fetch it, or say where such files lie: paths.weights=DIR.")
    return path


def parse(overrides: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Return parsed overrides; raises `UsageError` for one that is not `key=value`. `glob(...)` needs the loader."""
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        try:
            override = parser.parse_override(text)
            if not override.key_or_group:
                raise HydraException("no key")
        except (HydraException, OmegaConfBaseException) as error:
            shown = text.replace("\n", "\\n")
            raise UsageError(
                f"'{shown}' is not an override: write group=choice or key=value, for example scan=cross or "
                f"train.steps=500 (quote values that hold spaces, commas, brackets or letters such as ü)."
            ) from error
        override.config_loader = loader
        parsed.append(override)
    return parsed


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Return one list of overrides per job of a multirun: `scan=raster,cross seed=0,1` makes four."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    with _hydra():
        parsed = parse(overrides, GlobalHydra.instance().config_loader())
        batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    jobs = [list(job) for batch in batches for job in batch]
    if not jobs:
        shown = ", ".join(str(o.input_line) for o in parsed if o.is_sweep_override())
        raise UsageError(f"'{shown}' names no run at all: a range or glob there is empty.")
    return jobs


def _hash_file(path: Path, key: str) -> str:
    """Return the sha256 of a file of weights: what a run starts from, wherever the file lies."""
    try:
        return hash_file(path)
    except OSError as error:
        raise UsageError(f"{key}={path} cannot be read: {error.strerror}. Give a file.") from error


@contextlib.contextmanager
def _hydra() -> Iterator[None]:
    Plugins.instance().register(UserConf)  # a launcher's worker begins with a new list of plugins
    # A launcher keeps its own Hydra state while its jobs compose.
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(conf_dirs()[-1]), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().clear()
        GlobalHydra.instance().hydra = before


def _check_choice(override: Override) -> None:
    """Raise `UsageError` for several values where one is meant, and for a choice that a group does not have."""
    text, group, value = override.input_line, override.key_or_group, override.value()
    if re.match(r"hydra[./]", group):
        raise UsageError(f"'{text}' chooses how many runs are launched: it is for `train -m` and `sweep`.")
    if override.is_sweep_override():
        raise UsageError(
            f"'{text}' names several values for one run. `dehaze-bench train -m` makes a run of each; "
            f"[a,b] is one value that is a list."
        )
    if group not in list_groups() or override.is_delete():
        return
    known = list_choices(group)
    if not isinstance(value, str) or value not in known:
        shown = "null" if value is None else str(value)
        elsewhere = [other for other in list_groups() if shown in list_choices(other)]
        other = f" '{shown}' is a choice of {' and '.join(elsewhere)}." if elsewhere else ""
        hint = f"{nearest(shown, known)}{other} `dehaze-bench ls {group}` describes them."
        raise UsageError(f"Unknown {group} '{shown}'. {hint}")


def _explain(error: Exception, parsed: Sequence[Override]) -> str:
    """Return one sentence on what Hydra or OmegaConf refused, which override it was, and what would do."""
    text = str(error).strip()
    for override in parsed:
        key, line = override.key_or_group, str(override.input_line)
        if f"override {line}" in text:
            if override.is_delete():
                return f"'{line}' takes away what every run needs: set {key}=VALUE instead."
            expected = describe_type(key)
            if expected is not None:
                return f"'{line}' does not fit: {key} must be {expected}."
            if key in SECTIONS:
                return f"'{line}' does not fit: {key} has parts, set one of them, for example {key}.KEY=VALUE."
    for override in parsed:
        key = override.key_or_group
        if f"'{key}'" in text or f"override {override.input_line}" in text:
            if override.is_delete():
                return f"'{override.input_line}': there is no such key or choice to take away."
            return _unknown(key, [str(o.input_line) for o in parsed if o.key_or_group in list_groups()])
    cause = str(error.__cause__ or "").strip().splitlines()
    return " ".join([*text.splitlines()[:1], *(f"({line})" for line in cause[:1])]) or repr(error)


def _unknown(key: str, choices: Sequence[str]) -> str:
    """Return why a key or group is unknown: what there is at that place, and where its last name does occur."""
    groups = list_groups()
    if key in groups:
        return f"'{key}' has no place in what was chosen: {key.rpartition('/')[0] or 'this config'} has no such part."
    if "/" in key:
        return f"Unknown group '{key}'. {nearest(key, groups)}"
    with _hydra():
        try:
            cfg = compose(config_name="config", overrides=list(choices))
        except (HydraException, OmegaConfBaseException, ValueError):
            return f"Unknown key or group '{key}'. {nearest(key, groups)}"
    path, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, path) if path else cfg
    if not isinstance(node, DictConfig):
        parent = path.rpartition(".")[0]
        return f"Unknown key '{key}': '{path}' has no parts." if not parent else _unknown(path, choices)
    if "_target_" in node and name in parameters_of(targets.locate(str(node["_target_"]), path)):
        return f"'{key}' is not in the file of '{path}': write +{key}=VALUE to add it."
    same = [other for other in [*groups, *_walk(cfg, "")] if re.split(r"[./]", other)[-1] == name]
    if same:
        return f"Unknown key '{key}'. Did you mean {' or '.join(repr(other) for other in same)}?"
    return f"Unknown key '{key}'. {nearest(name, [str(k) for k in node if not str(k).startswith('_')])}"


def _walk(node: DictConfig, prefix: str) -> Iterator[str]:
    for key in node:
        if str(key).startswith("_"):
            continue
        yield f"{prefix}{key!s}"
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none():
            yield from _walk(child, f"{prefix}{key!s}.")

"""Overrides to one config: Hydra's composition with our search path and with errors that name the remedy.

Folders are searched in this order: `./conf` of the user, then the packaged one. Nothing is written.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hydra import compose, initialize_config_dir
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

from dehaze_bench.config import Config
from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.registry import conf_dirs, list_choices, list_groups

ConfigStore.instance().store(name="schema", node=Config)


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
    parse(overrides)
    with _hydra():
        try:
            whole = compose(config_name="config", overrides=list(overrides), return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise UsageError(_explain(error, overrides)) from error
    choices = {str(k): str(v) for k, v in whole.hydra.runtime.choices.items() if not str(k).startswith("hydra/")}
    with open_dict(whole):
        del whole["hydra"]
    try:
        OmegaConf.to_container(whole, resolve=True)
    except OmegaConfBaseException as error:
        raise UsageError(_explain(error, overrides)) from error
    return Composed(cfg=whole, choices=choices, overrides=tuple(overrides))


def parse(overrides: Sequence[str]) -> list[Override]:
    """Return parsed overrides; raises `UsageError` for one that is not `key=value`."""
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except (HydraException, OmegaConfBaseException) as error:
            raise UsageError(
                f"'{text}' is not an override: write group=choice or key=value, for example scan=cross or "
                f"train.steps=500 (quote values that hold spaces, commas or brackets)."
            ) from error
    return parsed


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Return one list of overrides per job of a multirun: `scan=raster,cross seed=0,1` makes four."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    batches = BasicSweeper.split_arguments(parse(overrides), max_batch_size=None)
    return [list(job) for batch in batches for job in batch]


@contextlib.contextmanager
def _hydra() -> Iterator[None]:
    # A launcher keeps its own Hydra state while its jobs compose.
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(conf_dirs()[-1]), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().clear()
        GlobalHydra.instance().hydra = before


def _explain(error: Exception, overrides: Sequence[str]) -> str:
    groups = list_groups()
    sound: list[str] = []
    for override in parse(overrides):
        key = override.key_or_group
        value = override.value()
        if key in groups and isinstance(value, str):
            if value not in list_choices(key):
                return (
                    f"Unknown {key} '{value}'. {nearest(value, list_choices(key))} "
                    f"`dehaze-bench ls {key}` describes them."
                )
            sound.append(f"{key}={value}")
    text = str(error).strip()
    full_key = re.search(r"full_key: (\S+)", text)
    if "could not be converted" in text or "is not a valid" in text or "not supported" in text:
        return f"{text.splitlines()[0]}" + (f" (key {full_key.group(1)})" if full_key else "")
    for override in parse(overrides):
        key = override.key_or_group
        if key not in groups and f"'{key}'" in text:
            return f"Unknown key or group '{key}'. {nearest(key, _known_keys(sound))}"
    cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
    return f"{text.splitlines()[0]}{cause}" if text else repr(error)


def _known_keys(sound: Sequence[str]) -> list[str]:
    """Return every dotted key of the config that the valid group choices give, and the groups."""
    with _hydra():
        try:
            cfg = compose(config_name="config", overrides=list(sound))
        except (HydraException, OmegaConfBaseException):
            return list_groups()
    return [*list_groups(), *_walk(cfg, "")]


def _walk(node: DictConfig, prefix: str) -> Iterator[str]:
    for key in node:
        if str(key).startswith("_"):
            continue
        yield f"{prefix}{key}"
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none():
            yield from _walk(child, f"{prefix}{key}.")

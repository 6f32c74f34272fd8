"""Where the weights of an evaluation or a restoration come from: a finished run, or a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from torch import nn

from dehaze_bench import build
from dehaze_bench.compose import Composed, compose_run, evaluated, find_weights, parse
from dehaze_bench.digest import hash_file
from dehaze_bench.errors import UsageError
from dehaze_bench.identify import identify
from dehaze_bench.results.record import BEST
from dehaze_bench.results.store import Store, StoredRun
from dehaze_bench.weights import load_own, load_published, read_metadata
from dehaze_bench.weights.keymaps import family_of
from dehaze_bench.weights.published import PROTOCOLS

# What a run fixes for every later evaluation of its weights.
FIXED = ("model", "scan", "train", "optimizer", "schedule", "loss", "recipe", "dataset", "seed", "weights")


@dataclass(frozen=True)
class Source:
    """A network with its weights, the config it was built from, and what identifies it.

    `kind` is "ours" or "rerun" (published weights); `step` and `select` are those of the training, if any.
    """

    network: nn.Module
    cfg: DictConfig
    choices: dict[str, str]
    kind: str
    seed: int
    step: int | None
    select: str
    weights: str | None

    def half(self) -> dict[str, Any]:
        """Return the part of the identity of an evaluation that the weights decide."""
        return evaluated(self.cfg, self.weights, self.seed)


def check_evaluation(cfg: DictConfig) -> None:
    """Check that a file of weights can be evaluated: the model, the file, device, protocol and test set."""
    find_weights(cfg)
    check_measure(cfg)


def check_measure(cfg: DictConfig) -> None:
    """Check what an evaluation needs besides the weights: the model, device, protocol and test set."""
    build.check(cfg)
    for make in (build.device, build.protocol, build.testset):
        make(cfg)


def compose_for(overrides: list[str], run: str | None) -> Composed:
    """Compose an evaluation.

    Test set and protocol of an old run stand unless overridden. Published weights say themselves which model they are,
    and are measured as their paper does, unless a model or protocol is given.
    """
    keys = {override.key_or_group: override for override in parse(overrides)}
    if run is None:
        return compose_run([*overrides, *_identified(keys)])
    for key in keys:
        if key.split(".")[0].split("/")[0] in FIXED:
            raise UsageError(f"'{key}' is fixed by run={run}: an evaluation changes testset and protocol only.")
    kept = [group for group in ("testset", "protocol") if group not in keys]
    inner = [key for key in keys if key.split(".")[0] in kept]
    composed = compose_run([text for text in overrides if text.lstrip("+~").split("=")[0] not in inner])
    stored = find_run(composed.cfg, run)
    saved = OmegaConf.load(stored.path / "config.yaml")
    assert isinstance(saved, DictConfig) and stored.record is not None
    choices = dict(composed.choices)
    for group in kept:
        composed.cfg[group] = saved[group]
        choices[group] = stored.record.choices[group]
    for key in inner:
        OmegaConf.update(composed.cfg, key, keys[key].value(), force_add=True)
    return replace(composed, choices=choices, overrides=tuple(overrides))


def _identified(keys: Mapping[str, Override]) -> list[str]:
    """Return the overrides that a file of published weights stands for where the user left them out."""
    weights = keys["weights"].value() if "weights" in keys else None
    if not isinstance(weights, str) or ("model" in keys and "protocol" in keys) or is_own(Path(weights)):
        return []
    if "model" in keys:
        target = str(compose_run([f"model={keys['model'].value()}"]).cfg.model["_target_"])
        protocol, found = PROTOCOLS.get(family_of(target)), []
    else:
        identified = identify(Path(weights))
        print(identified.sentence(Path(weights)), file=sys.stderr)
        protocol, found = identified.protocol, [f"model={identified.model}"]
    return found if protocol is None or "protocol" in keys else [*found, f"protocol={protocol}"]


def is_own(path: Path) -> bool:
    """Whether a file was written by a run of ours, which keeps its config inside."""
    return path.suffix == ".safetensors" and "config" in read_metadata(path)


def find_run(cfg: DictConfig, run: str) -> StoredRun:
    """Return a finished run; raises `UsageError` naming the nearest where there is none."""
    return Store(Path(cfg.paths.runs)).require(run)


def load(composed: Composed, run: str | None) -> Source:
    """Return the weights of a finished run, of `cfg.weights`, or a network that has none to load."""
    return _from_run(composed, run) if run is not None else _from_file(composed)


def _from_run(composed: Composed, run: str) -> Source:
    stored = find_run(composed.cfg, run)
    record = stored.record
    assert record is not None
    cfg = OmegaConf.load(stored.path / "config.yaml")
    assert isinstance(cfg, DictConfig)
    network = build.model(cfg)
    if build.trainable(network):
        load_own(network, stored.path / BEST)
    choices = {k: v for k, v in record.choices.items() if k.split("/")[0] in FIXED}
    step, select = record.evaluation.step, record.evaluation.select
    return Source(network, cfg, choices, record.kind, record.seed, step, select, record.id)


def _from_file(composed: Composed) -> Source:
    cfg = composed.cfg
    network = build.model(cfg)
    kind, step, select, weights = "ours", None, "none", None
    if cfg.weights is not None:
        path = find_weights(cfg)
        if is_own(path):
            metadata = load_own(network, path)
            step, select = int(metadata.get("step", 0)), json.loads(metadata["config"])["train"]["select"]
            weights = hash_file(path)
        else:
            weights = load_published(network, path).sha256
            kind = "rerun"
    elif build.trainable(network):
        raise UsageError(
            f"Model '{composed.choices['model']}' needs weights here: give run=ID of a finished run, or weights=FILE."
        )
    return Source(network, cfg, {}, kind, int(cfg.seed), step, select, weights)

"""Who the runs of an experiment are, without composing each of them anew, which takes tenths of a second.

What seeds of one row share is composed once, and identities are kept in the folder of runs for the next call. They are
taken from there only while nothing that decides them has changed: the config tree, the code that composes and
identifies, its libraries, and the environment variables that configs read.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import DictConfig

from dehaze_bench import config
from dehaze_bench.compose import FILES, Composed, compose_run, identify_run
from dehaze_bench.errors import UsageError
from dehaze_bench.registry import PACKAGE, conf_dirs
from dehaze_bench.results.files import write_json_atomic

FILE = ".identities.json"
CODE = ("compose.py", "config.py", "digest.py", "remembered.py")
LIBRARIES = ("hydra-core", "omegaconf")
_SEED = re.compile(r"seed=(\d+)")
_VARIABLE = re.compile(rb"oc\.env:\s*(\w+)")


@dataclass(frozen=True)
class Known:
    """What a plan needs of a row: its identity (or the `reason` why it has none yet), and the folders it names."""

    id: str
    name: str
    runs: str
    tables: str
    track: str
    reason: str = ""


class Memory:
    """Identities by overrides; `save` keeps them for later where the folder of runs is there."""

    def __init__(self) -> None:
        self._composed: dict[tuple[str, ...], Composed] = {}
        self._kept: dict[str, Known] | None = None
        self._new = False
        self._fingerprint = ""
        self._folder = Path()

    def identify(self, overrides: Sequence[str]) -> Known:
        """Return who the run of these overrides is; raises `UsageError` for what cannot be composed."""
        key = json.dumps(list(overrides))
        if self._kept is not None and key in self._kept:
            return self._kept[key]
        composed = self._compose(overrides)
        cfg = composed.cfg
        paths = {"runs": str(cfg.paths.runs), "tables": str(cfg.paths.tables)}
        track = str(cfg.track.get("mode", "disabled"))
        try:
            identity = identify_run(composed)
        except UsageError as error:  # weights that are not here, or not yet
            return Known("", "", **paths, track=track, reason=str(error))
        known = Known(identity.id, identity.name, **paths, track=track)
        if self._kept is None:
            self._folder, self._fingerprint = Path(cfg.paths.runs), fingerprint()
            self._kept = _read(self._folder / FILE, self._fingerprint)
        if not _reads_files(cfg) and self._kept.get(key) != known:
            self._kept[key], self._new = known, True
        return known

    def save(self) -> None:
        """Write what is new; where that is impossible the next call composes again."""
        if not self._new or self._kept is None or not self._folder.is_dir():
            return
        rows = {key: asdict(known) for key, known in self._kept.items()}
        with suppress(OSError):
            write_json_atomic(self._folder / FILE, {"fingerprint": self._fingerprint, "rows": rows})

    def _compose(self, overrides: Sequence[str]) -> Composed:
        """Compose, or take the config of another seed and change the seed, which no choice of files hangs on."""
        seeds = [match for text in overrides if (match := _SEED.fullmatch(text))]
        rest = tuple(text for text in overrides if not _SEED.fullmatch(text))
        if len(seeds) != 1:
            return _checked(overrides)
        if rest not in self._composed:
            self._composed[rest] = _checked(overrides)
        shared = self._composed[rest]
        shared.cfg.seed = int(seeds[0][1])
        return shared


def fingerprint() -> str:
    """Return a hash over everything that decides the identity of a row besides its overrides."""
    digest = hashlib.sha256()
    variables: set[bytes] = set()
    for root in conf_dirs():
        for path in sorted(root.rglob("*.yaml")):
            content = path.read_bytes()
            variables.update(_VARIABLE.findall(content))
            digest.update(f"{path}\0{len(content)}\0".encode() + content)
    for name in CODE:
        digest.update((PACKAGE / name).read_bytes())
    facts = [f"{name}={importlib.metadata.version(name)}" for name in LIBRARIES]
    facts += [f"{name}={os.environ.get(name)}" for name in sorted(name.decode() for name in variables)]
    digest.update("\0".join(facts).encode())
    return digest.hexdigest()


def _checked(overrides: Sequence[str]) -> Composed:
    composed = compose_run(overrides)
    config.check_keys(composed.cfg)
    return composed


def _reads_files(cfg: DictConfig) -> bool:
    """Whether the content of a file of weights is part of the identity: that may change under the same overrides."""
    named = [cfg[group].get(key) for group, key, _ in FILES if isinstance(cfg[group], DictConfig)]
    return cfg.weights is not None or any(name is not None for name in named)


def _read(path: Path, wanted: str) -> dict[str, Known]:
    """Return what was kept under the same fingerprint; a file that is missing, old or spoilt keeps nothing."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["fingerprint"] == wanted:
            return {key: Known(**known) for key, known in raw["rows"].items()}
    return {}

"""Which code a config may name. Nothing is imported for a `_target_` before its name is found to be allowed.

A config that came from elsewhere (a run directory, a `./conf` of others) is data, so the list can't be extended in one:
the environment variable is the user's own word.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from dehaze_bench.errors import UsageError

PREFIXES = ("dehaze_bench", "torch.optim", "torch.nn")
VARIABLE = "DEHAZE_TARGETS"


def prefixes() -> tuple[str, ...]:
    """Return the packages and modules that a `_target_` may lie in: ours and those of the environment variable."""
    own = (text.strip(" .") for text in os.environ.get(VARIABLE, "").split(","))
    return (*PREFIXES, *(text for text in own if text))


def check(node: object, path: str) -> None:
    """Raise `UsageError` for the first `_target_` at any depth of plain data whose name is not allowed."""
    for where, target in _targets(node, path):
        _check_name(target, where)


def locate_all(node: object, path: str) -> None:
    """Raise `UsageError` as `locate` does, for every `_target_` at any depth of plain data."""
    check(node, path)
    for where, target in _targets(node, path):
        locate(str(target), where)


def are_own(node: object) -> bool:
    """Whether every `_target_` in plain data is code of this package or of torch, not of the environment variable's."""
    names = [str(target) for _, target in _targets(node, "")]
    return all(any(name.startswith(f"{prefix}.") for prefix in PREFIXES) for name in names)


def locate(target: str, path: str) -> Any:
    """Return the function or class that a dotted `_target_` names; `path` is where in the config it stands.

    Raises `UsageError` where the name is not allowed, cannot be imported, or stands for something that an allowed
    module has merely imported from elsewhere.
    """
    _check_name(target, path)
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"'{path}._target_' names '{target}', which cannot be imported: {error}") from error
    home = getattr(found, "__module__", None)
    if not callable(found) or not isinstance(home, str):
        raise UsageError(f"'{path}._target_' names '{target}', which is neither a function nor a class.")
    if not _is_allowed(home):
        raise UsageError(f"'{path}._target_' names '{target}', which comes from '{home}'. {_remedy(home)}")
    return found


def _targets(node: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node["_target_"]
        for key, value in node.items():
            yield from _targets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _targets(value, f"{path}[{index}]")


def _check_name(target: object, path: str) -> None:
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")) or "." not in target:
        raise UsageError(f"'{path}._target_' is '{target}': write the dotted name of a function or class.")
    if not _is_allowed(target):
        raise UsageError(f"'{path}._target_' names '{target}'. {_remedy(target)}")


def _is_allowed(name: str) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes())


def _remedy(name: str) -> str:
    own = ",".join([*prefixes()[len(PREFIXES) :], name.partition(".")[0]])
    return (
        f"A config may name code of {', '.join(prefixes())} only. If you trust it, allow it by the environment "
        f"variable: {VARIABLE}={own}."
    )

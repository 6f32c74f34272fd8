"""The scans of `conf/scan` without Hydra and torch, so that they can be listed and measured at once."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dehaze_bench import targets
from dehaze_bench.errors import BenchError, UsageError
from dehaze_bench.registry import conf_dirs, describe
from dehaze_bench.scans.grid import Grid, Walk
from dehaze_bench.scans.statistics import ScanStatistics, measure

SCAN = "dehaze_bench.scans.Scan"
# Grids to look at and to compare on, by number of axes.
SHOWN = {2: (8, 8), 3: (3, 4, 4)}
COMPARED = {2: (16, 16), 3: (4, 8, 8)}


@dataclass(frozen=True)
class Entry:
    """One scan file. `order` is its text, `walks` what it makes: those whose order depends on the grid alone.

    `is_native` marks the file that stands for "whatever the network has", `is_dynamic` a scan with an order that is
    found from the tokens: there is nothing to measure before there is a picture. `error` says why a file cannot be
    read, and is empty for one that can.
    """

    name: str
    description: str = ""
    merge: str = ""
    mode: str = ""
    order: object = None
    walks: tuple[Walk, ...] = ()
    is_dynamic: bool = False
    is_native: bool = False
    error: str = ""

    @property
    def axes(self) -> tuple[int, ...]:
        """The numbers of grid axes, of two and three, that the scan takes."""
        return tuple(axes for axes in (2, 3) if self._takes((4,) * axes))

    @property
    def calls(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        """The functions and classes behind the orders, by dotted name, with the arguments that the file gives them."""
        return tuple(_calls(self.order))

    def default(self, grids: Mapping[int, Grid]) -> Grid:
        """Return the grid of `grids` that suits the scan: a plane before a volume."""
        return grids[self.axes[0]] if self.axes else grids[2]

    def measure(self, grid: Grid) -> ScanStatistics:
        """Return the statistics on `grid`; raises `UsageError` where there are none."""
        if self.error:
            raise UsageError(f"Scan '{self.name}' {self.error}")
        if self.is_native:
            raise UsageError(
                f"'{self.name}' stands for the scan that a network was published with: name a scan to look at one."
            )
        if self.is_dynamic:
            raise UsageError(
                f"Scan '{self.name}' finds its order anew in every forward pass: there is nothing to draw or measure."
            )
        try:
            return measure(self.name, self.walks, grid)
        except BenchError:
            raise
        except Exception as error:  # an order may be anybody's function
            raise UsageError(
                f"Scan '{self.name}' cannot walk over a grid of {grid}: {type(error).__name__}: {error}"
            ) from error

    def routes(self, grid: Grid) -> list[tuple[Walk, np.ndarray]]:
        """Return each walk over space with its ids (K, L) on the grid that it walks over."""
        return [(walk, np.asarray(walk.order(walk.coarse(grid)))) for walk in self.walks if walk.axis == "space"]

    def _takes(self, grid: Grid) -> bool:
        try:
            self.routes(grid)
        except Exception:  # an order may be anybody's function
            return False
        return True


def entries(folders: Sequence[Path] | None = None) -> list[Entry]:
    """Return the scans of all `folders` of config groups by name; the first folder that has a name wins.

    Without `folders`: the user's `./conf`, then the packaged one. A file that cannot be read is an entry with `error`.
    """
    found: dict[str, Entry] = {}
    for folder in conf_dirs() if folders is None else folders:
        for path in sorted((folder / "scan").glob("*.yaml")):
            if path.stem not in found:
                found[path.stem] = read(path)
    return [found[name] for name in sorted(found)]


def read(path: Path) -> Entry:
    """Return the scan of one file, with `error` where it cannot be read."""
    text = describe(path)
    try:
        return from_node(path.stem, yaml.safe_load(path.read_text(encoding="utf-8")), text)
    except UsageError as error:
        return Entry(path.stem, text, error=str(error))
    except (OSError, ValueError, yaml.YAMLError) as error:
        return Entry(path.stem, text, error=f"cannot be read: {' '.join(str(error).split())}")


def from_node(name: str, node: object, description: str = "") -> Entry:
    """Return the scan that a mapping describes; raises `UsageError` where it names what is not there."""
    if not isinstance(node, Mapping):
        raise UsageError("cannot be read: it is no mapping of keys to values")
    if "_target_" not in node:
        return Entry(name, description, is_native=True)
    if node["_target_"] != SCAN or "order" not in node:
        raise UsageError(f"cannot be measured: only a _target_ of {SCAN} with an order can")
    merge, mode = str(node.get("merge", "sum")), str(node.get("mode", "parallel"))
    targets.check(node["order"], f"{name}.order")
    if _is_drawn(node["order"]):
        return Entry(name, description, merge, mode, node["order"], is_dynamic=True)
    try:
        order = build(node["order"])
    except BenchError:
        raise
    except Exception as error:  # what a file names may fail in any way when it is imported or made
        raise UsageError(f"cannot be made: {type(error).__name__}: {error}") from error
    walks = as_walks(order)
    fixed = [walk for walk in walks if not hasattr(walk.order, "draw")]
    for walk in fixed:
        if not callable(walk.order):
            raise UsageError(f"cannot be measured: its order is no function but {walk.order!r}")
    return Entry(
        name=name,
        description=description,
        merge=merge,
        mode=mode,
        order=node["order"],
        walks=tuple(fixed),
        is_dynamic=len(fixed) < len(walks),
    )


def as_walks(order: Any) -> list[Walk]:
    """Return the walks of an order, one function or a list of walks."""
    return [item if isinstance(item, Walk) else Walk(item) for item in (order if isinstance(order, list) else [order])]


def build(node: object) -> Any:
    """Return what a node stands for, as `hydra.utils.instantiate` does for functions, classes, lists and numbers.

    Only code that a config may name is imported, and nothing but classes is called without `_partial_`.
    """
    if isinstance(node, str) and "${" in node:
        raise UsageError(f"cannot be measured: '{node}' has a value only inside a whole config")
    if isinstance(node, list):
        return [build(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    values = {str(key): build(value) for key, value in node.items() if not str(key).startswith("_")}
    if "_target_" not in node:
        return values
    name = str(node["_target_"])
    target = targets.locate(name, "order")
    if node.get("_partial_"):
        return partial(target, **values)
    if not inspect.isclass(target):
        raise UsageError(f"cannot be measured: {name} is a function, write _partial_: true beside it")
    return target(**values)


def _is_drawn(node: object) -> bool:
    """Whether an order is found in the forward pass: whether its class has `draw`.

    Its source is read instead of imported: such a class works on tensors, so its module imports torch.
    """
    if isinstance(node, list):
        return any(_is_drawn(item.get("order")) for item in node if isinstance(item, Mapping))
    if not isinstance(node, Mapping) or node.get("_partial_"):
        return False
    module, _, name = str(node.get("_target_", "")).rpartition(".")
    try:
        spec = importlib.util.find_spec(module)
        source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
        body = ast.parse(source).body
    except (ImportError, ValueError, OSError, SyntaxError):
        return False
    classes = [item for item in body if isinstance(item, ast.ClassDef) and item.name == name]
    return any(isinstance(item, ast.FunctionDef) and item.name == "draw" for found in classes for item in found.body)


def _calls(node: object) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, list):
        for item in node:
            yield from _calls(item)
    elif isinstance(node, Mapping):
        if "order" in node:  # a walk
            yield from _calls(node["order"])
        elif "_target_" in node:
            given = {str(key): value for key, value in node.items() if not str(key).startswith("_")}
            yield str(node["_target_"]), given

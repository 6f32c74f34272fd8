"""Golden fixtures on disk: a folder with spec.json and out.npz, a scan as one JSON file, or an expected.json.

Whatever is malformed raises UsageError with the file and what is wrong in it; nothing is guessed.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.verify import fill


@dataclass(frozen=True)
class Fixture:
    """One fixture; `kind` is "arrays", "scan" or "real" (published weights); only the first has arrays."""

    name: str
    kind: str
    path: Path
    spec: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def model(self) -> str:
        """What the fixture is about: the name of its model, operator or scan."""
        return str(self.field("scan" if self.kind == "scan" else "model"))

    @property
    def tolerance(self) -> float:
        """Largest allowed relative error of an array."""
        value = self.field("tolerance")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise UsageError(f"{self.path}: tolerance is {value!r} instead of a number from 0 to 1.")
        return float(value)

    def field(self, name: str) -> Any:
        """Return an entry of the JSON; raises UsageError where it is missing."""
        if name not in self.spec:
            raise UsageError(f"{self.path}: there is no entry '{name}'.")
        return self.spec[name]

    def array(self, name: str) -> np.ndarray:
        """Return an array of out.npz; raises UsageError where it is missing."""
        if name not in self.arrays:
            raise UsageError(f"{self.path}: out.npz has no array '{name}'. {nearest(name, self.arrays)}")
        return self.arrays[name]

    def tensor(self, name: str) -> Tensor:
        """Return an array of out.npz as a tensor of the same type."""
        return torch.from_numpy(np.ascontiguousarray(self.array(name)))

    @property
    def inputs(self) -> list[str]:
        """Names of the arrays that are inputs."""
        return list(self.field("input").get("in_npz", []))

    def image(self) -> Tensor:
        """Return the one input: rebuilt from its seed by the rule that the fixture names, or the only input array."""
        if self.inputs:
            if len(self.inputs) != 1:
                raise UsageError(f"{self.path}: one input was expected, there are {', '.join(self.inputs)}.")
            return self.tensor(self.inputs[0])
        entry = self.field("input")
        seed, shape = entry.get("seed"), tuple(int(n) for n in entry.get("shape") or ())
        rule = str(entry.get("make", "fill.image(seed, shape)"))
        if not isinstance(seed, int) or len(shape) < 2:
            raise UsageError(f"{self.path}: input needs a seed and a shape, it is {entry!r}.")
        if rule.startswith("numpy.random.default_rng(seed).standard_normal(shape)"):
            return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))
        if not rule.startswith("fill.image("):
            raise UsageError(f"{self.path}: the rule '{rule}' for making the input is not understood.")
        if len(shape) == 5:  # frames or slices stand beside the channels
            flat = (shape[0], shape[1] * shape[2], *shape[3:])
            return torch.from_numpy(fill.image(seed, flat).reshape(shape))
        if len(shape) != 4:
            raise UsageError(f"{self.path}: an image has the shape (N, C, H, W), not {list(shape)}.")
        return torch.from_numpy(fill.image(seed, shape))

    def normalised(self) -> Tensor:
        """Return the one input in the range that the fixture says its network works in: (x - mean) / std by channel."""
        stated = self.spec.get("normalise")
        if stated is None:
            return self.image()
        if not isinstance(stated, dict) or stated.keys() != {"mean", "std"}:
            raise UsageError(f"{self.path}: normalise={stated!r} is not a mean and a std per channel.")
        mean_C11, std_C11 = (torch.tensor(stated[name], dtype=torch.float32)[:, None, None] for name in ("mean", "std"))
        return (self.image() - mean_C11) / std_C11

    def weights(self) -> dict[str, Tensor]:
        """Return the published state dict, rebuilt from its names and shapes."""
        filled = fill.state_dict(self.field("shapes"))
        return {name: torch.from_numpy(array) for name, array in filled.items()}

    def describe(self, array: str) -> str:
        """Return what the spec says about an array, or an empty string."""
        return str(self.spec.get("arrays", {}).get(array, ""))


class BuildArguments:
    """The `build` table of a fixture, read to the last entry: what nobody asked for is an error."""

    def __init__(self, fixture: Fixture) -> None:
        self.fixture = fixture
        self.left = dict(fixture.field("build"))

    def take(self, name: str) -> Any:
        """Return an argument; raises UsageError where it is missing."""
        if name not in self.left:
            raise UsageError(f"{self.fixture.path}: build has no argument '{name}'.")
        return self.left.pop(name)

    def optional(self, name: str, default: Any) -> Any:
        """Return an argument, or `default` where it is missing."""
        return self.left.pop(name, default)

    def expect(self, name: str, *supported: Any) -> Any:
        """Return an argument that only some values of are supported; raises UsageError for any other."""
        value = self.take(name)
        if value not in supported:
            known = " or ".join(repr(choice) for choice in supported)
            raise UsageError(f"{self.fixture.path}: build argument {name}={value!r} is not supported, only {known}.")
        return value

    def finish(self) -> None:
        """Raise UsageError unless every argument was read."""
        for name in self.left:
            raise UsageError(
                f"{self.fixture.path}: the check of {self.fixture.model} does not understand build argument '{name}'."
            )


def find_fixtures(path: Path) -> list[Path]:
    """Return the fixtures at `path`: itself, or those directly inside a folder of fixtures."""
    if not path.exists():
        raise UsageError(f"There is no fixture at {path}: give a fixture folder or a scan .json file.")
    if path.is_file() or _is_fixture_folder(path):
        return [path]
    inside = sorted(entry for entry in path.iterdir() if _is_fixture_folder(entry) or entry.suffix == ".json")
    if not inside:
        raise UsageError(f"{path} holds no fixture: neither spec.json, expected.json nor scan .json files.")
    return inside


def load_fixture(path: Path) -> Fixture:
    """Read one fixture; raises UsageError where a file is missing or malformed."""
    if path.is_file() and path.name in ("spec.json", "expected.json"):
        path = path.parent
    if path.is_file():
        spec = _read_json(path)
        if "scan" not in spec:
            raise UsageError(f"{path}: a fixture in one file is a scan and has an entry 'scan'; this one has not.")
        return Fixture(path.stem, "scan", path, spec, {})
    if (path / "expected.json").is_file():
        return Fixture(path.name, "real", path, _read_json(path / "expected.json"), {})
    return Fixture(path.name, "arrays", path, _read_json(path / "spec.json"), _read_npz(path / "out.npz"))


def _is_fixture_folder(path: Path) -> bool:
    return (path / "spec.json").is_file() or (path / "expected.json").is_file()


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"There is no {path.name} in {path.parent}: a fixture folder has spec.json and out.npz.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds a {type(content).__name__} instead of a JSON object.")
    return content


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UsageError(f"There is no out.npz in {path.parent}: a fixture folder has spec.json and out.npz.")
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is not a readable npz file: {error}.") from None

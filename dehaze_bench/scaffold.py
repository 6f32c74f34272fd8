"""`dehaze-bench new`: the files of an own experiment, scan or model, with a test that fails until they are filled in.

Everything goes to the working folder: `./conf` and `./experiments` are searched before the packaged ones, code and its
test lie beside them. Nothing that exists is overwritten.
"""

from __future__ import annotations

import re
from pathlib import Path

from dehaze_bench.arguments import Arguments
from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.registry import experiment_dirs, list_choices

KINDS = ("experiment", "scan", "model")

_EXPERIMENT = """\
# {name}: say in one line what is compared
name: {name}
title: {title}
note: >-
  Say what the table can and cannot show.
base:
  - dataset=deadleaves
  - testset=photos
  - protocol=full_rgb
  - train.steps=200
seeds: [0]
rows:
  - {{label: hazy input, overrides: [model=identity]}}
  - {{label: first, overrides: [model=FILL_IN]}}
columns: [params, macs, psnr, ssim]
sort: psnr
"""
_EXPERIMENT_TEST = """\
\"\"\"{name}: every row can be composed and its parts fit together.\"\"\"

from dehaze_bench import cli


def test_the_experiment_is_sound() -> None:
    assert cli.run(["check", "experiments/{name}.yaml"]) == 0
"""

_SCAN = """\
\"\"\"The scan {name}.\"\"\"

import numpy as np


def {name}(grid: tuple[int, ...]) -> np.ndarray:
    \"\"\"Return token ids in visiting order, one row per route; token (y, x) of H x W is y * W + x.\"\"\"
    height, width = grid
    ids = np.arange(height * width).reshape(height, width)
    raise NotImplementedError("write the order: every id once in each row, shape (routes, H * W)")
    return ids.reshape(1, -1)
"""
_SCAN_CONF = """\
# {title}: say in one line which order it is, and from where
_target_: dehaze_bench.scans.Scan
name: {name}
order: {{_target_: {module}.{name}, _partial_: true}}
merge: mean
"""
_SCAN_TEST = """\
\"\"\"{name}: every route visits every token once, on any grid.\"\"\"

import numpy as np
import pytest
from {module} import {name}


@pytest.mark.parametrize("grid", [(1, 1), (1, 7), (5, 1), (6, 6), (7, 10)])
def test_every_token_is_visited_once(grid: tuple[int, int]) -> None:
    index = {name}(grid)
    assert index.ndim == 2 and index.shape[1] == grid[0] * grid[1]
    for route in index:
        assert np.array_equal(np.sort(route), np.arange(grid[0] * grid[1]))
"""

_MODEL = """\
\"\"\"The network {name}: paper, venue, sizes, and what deviates from released code and why.\"\"\"

import torch
from torch import Tensor, nn


class {title}(nn.Module):
    \"\"\"Restorer of images (B, 3, H, W) in [0, 1] to the same; H and W must be multiples of `multiple`.\"\"\"

    multiple = 1
    trainable = True

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, width, 3, padding=1)

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        raise NotImplementedError("write the network: return an image of the shape of hazy_BCHW")
        return torch.zeros_like(hazy_BCHW)
"""
_MODEL_CONF = """\
# {title}: say in one line what it is
_target_: {module}.{title}
width: 16
"""
_MODEL_TEST = """\
\"\"\"{name}: the shape stays, and every parameter gets a gradient.\"\"\"

import torch
from {module} import {title}


def test_it_restores_and_learns() -> None:
    network = {title}()
    side = 8 * network.multiple
    hazy = torch.rand(2, 3, side, 2 * side)
    restored = network(hazy)
    assert restored.shape == hazy.shape and torch.isfinite(restored).all()
    restored.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
"""


def run(argv: Arguments) -> int:
    """Write the files of `new KIND NAME` and say what to do with them."""
    if len(argv) != 2 or argv[0] not in KINDS:
        raise UsageError(
            f"new needs a kind and a name: dehaze-bench new scan my_scan. {nearest(argv[0] if argv else '', KINDS)}"
        )
    kind, name = argv
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"'{name}' cannot be a name here: use small letters, digits and '_', for example my_{kind}.")
    _refuse_known(kind, name)
    module = f"{name}_{kind}"
    words = {"name": name, "title": "".join(part.capitalize() for part in name.split("_")), "module": module}
    files = _files(kind, name, module)
    taken = [path for path in files if path.exists()]
    if taken:
        raise UsageError(f"{taken[0]} exists and is left as it is: give another name, or move it away.")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(**words), encoding="utf-8")
        print(path)
    test = list(files)[-1]
    print(f"\nIt fails until it is filled in:\n  PYTHONPATH=. python -m pytest {test}\nThen:")
    own = f"DEHAZE_TARGETS={module} PYTHONPATH=. "
    command = {
        "experiment": f"dehaze-bench sweep {name}",
        "scan": f"{own}dehaze-bench train scan={name}",
        "model": f"{own}dehaze-bench train model={name}",
    }[kind]
    print(f"  {command}")
    return 0


def _files(kind: str, name: str, module: str) -> dict[Path, str]:
    """Return the texts by path, the test last."""
    test = Path("tests") / f"test_{module}.py"
    if kind == "experiment":
        return {Path("experiments") / f"{name}.yaml": _EXPERIMENT, test: _EXPERIMENT_TEST}
    code, conf, check = (_SCAN, _SCAN_CONF, _SCAN_TEST) if kind == "scan" else (_MODEL, _MODEL_CONF, _MODEL_TEST)
    return {Path(f"{module}.py"): code, Path("conf") / kind / f"{name}.yaml": conf, test: check}


def _refuse_known(kind: str, name: str) -> None:
    if kind == "experiment":
        known = {path.stem for folder in experiment_dirs() for path in folder.glob("*.yaml")}
    else:
        known = set(list_choices(kind))
    if name in known:
        raise UsageError(f"The {kind} '{name}' exists already, and a new one would hide it: give another name.")

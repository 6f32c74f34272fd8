"""Several processes are one run: weights, losses, rows, errors and stops are those of one process.

The checks are in `several.py`, which torchrun starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dehaze_bench.engine.distributed import World, join, processes

ROOT = Path(__file__).resolve().parents[2]


def start(count: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _ in range(2):  # at the very end torch aborts once in a while (exit -6), after all was said
        done = subprocess.run(
            [*command, "-m", "tests.engine.several", str(folder)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode == 0 or "exitcode : -6" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    assert "unused parameters" not in done.stderr and "destroy_process_group" not in done.stderr
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_are_one_run(tmp_path: Path, count: int) -> None:
    found = start(count, tmp_path)
    assert max(found["weights"].values()) < 1e-6, found["weights"]
    assert found["resume"]["resumed"] == 0.0 and found["resume"]["resumed in one process"] < 1e-6
    assert found["statistics"] == 0.0
    for name in ("evaluation", "agreement", "stop", "nonfinite"):
        assert all(found[name].values()), (name, found[name])


def test_one_process_needs_no_other() -> None:
    assert processes() == 1
    with join(torch.device("cpu")) as world:
        assert world == World(torch.device("cpu")) and world.first
        assert world.any(True, False) == (True, False) and world.sum(2.5) == (2.5,) and world.gather(3) == [3]
        assert world.once(lambda: "made") == "made" and world.claim_failure("text") is None
        world.agree("a", "config")

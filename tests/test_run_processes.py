"""torchrun over the command line: one directory, one record, one failure, whatever the number of processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from dehaze_bench import run
from dehaze_bench.results.record import read_failure, read_record
from tests import tiny

TRAINING = ("train.steps=20", "train.batch=4", "train.crop=32", "train.eval_every=10", "runtime.save_every=5")


def command(count: int, arguments: list[str]) -> list[str]:
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m"]
    return [sys.executable, "-m", *(torchrun if count > 1 else []), "dehaze_bench", "train", *arguments]


def start(count: int, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(count, arguments), env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def arguments(folder: Path, *more: str) -> list[str]:
    return tiny.overrides(folder, *tiny.NETWORK, *TRAINING, "runtime.log_every=2", *more)


def only(folder: Path) -> Path:
    found = list((folder / "runs").iterdir())
    assert len(found) == 1, found
    return found[0]


def difference(left: Path, right: Path) -> float:
    one, two = (load_file(only(folder) / "best.safetensors") for folder in (left, right))
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def test_two_processes_leave_what_one_leaves(tmp_path: Path) -> None:
    tiny.write_pairs(tmp_path / "pairs")
    places = [f"testset.{name}={tmp_path}/pairs/{name}" for name in ("hazy", "clear")]
    whole = run.train(tiny.tiny(tmp_path / "one", *TRAINING, *places, f"paths.runs={tmp_path}/one/runs"))
    done = start(2, arguments(tmp_path / "two", *places, f"paths.runs={tmp_path}/two/runs"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" done: ") == 1, "one process speaks for all"
    assert difference(tmp_path / "one", tmp_path / "two") < 1e-6
    folder = only(tmp_path / "two")
    assert folder.name == whole.path.name, "the number of processes is no part of the identity"
    record = read_record(folder / "result.json")
    assert record.evaluation.n == 3 and record.env["processes"] == 2
    for name, value in whole.record.evaluation.metrics.items():
        assert record.evaluation.metrics[name].mean == pytest.approx(value.mean, abs=1e-5)
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6, 8, 10, 10, 12, 14, 16, 18, 20, 20, 20]


def test_more_processes_than_images_is_one_clear_error(tmp_path: Path) -> None:
    done = start(2, arguments(tmp_path, "train.batch=1"))
    assert done.returncode == 1
    assert "torchrun started 2 processes for train.batch=1" in done.stderr
    assert not (tmp_path / "runs").exists() and "dehaze_bench/run.py" not in done.stderr


@pytest.mark.slow
def test_a_failure_in_any_process_is_recorded_once(tmp_path: Path) -> None:
    tiny.write_pairs(tmp_path / "train", count=8, size=(40, 40))
    training = ["dataset=pairs", f"dataset.hazy={tmp_path}/train/hazy", f"dataset.clear={tmp_path}/train/clear"]
    words = [word for word in arguments(tmp_path, *training) if not word.startswith("dataset.canvas")]
    (tmp_path / "train" / "clear" / "5.png").write_bytes(b"no picture")
    done = start(2, words)
    assert done.returncode == 1 and "dehaze_bench/run.py" not in done.stderr  # torchrun has a traceback of its own
    failure = read_failure(only(tmp_path) / "failed.json")
    assert "5.png" in failure.error and "checkpoint" in failure.error
    assert failure.error in done.stderr


@pytest.mark.slow
def test_a_kill_in_two_processes_goes_on_in_one_and_in_three(tmp_path: Path) -> None:
    """kill -9 of one process ends the run; the next start, with another number of processes, finishes it."""
    whole = start(1, arguments(tmp_path / "whole", "train.ema=0.9", "train.accumulate=2"))
    assert whole.returncode == 0, whole.stderr
    words = arguments(tmp_path / "cut", "train.ema=0.9", "train.accumulate=2")
    process = subprocess.Popen(command(2, words), stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 240
    while not list((tmp_path / "cut" / "runs").glob("*/last.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    victim = json.loads((only(tmp_path / "cut") / "env.json").read_text())["pid"]
    os.kill(victim, signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode == 1 and not (only(tmp_path / "cut") / "result.json").exists()
    done = start(3, words)
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line)["step"] for line in (only(tmp_path / "cut") / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6, 8, 10, 10, 12, 14, 16, 18, 20, 20, 20]
    assert difference(tmp_path / "whole", tmp_path / "cut") < 1e-6
    again = start(2, words)
    assert again.returncode == 0 and again.stdout.count("was done before") == 1


@pytest.mark.slow
def test_sigterm_to_torchrun_stops_and_saves(tmp_path: Path) -> None:
    words = arguments(tmp_path, "train.steps=4000")
    process = subprocess.Popen(command(2, words), stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 240
    while not list((tmp_path / "runs").glob("*/last.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0 and "Stopped by SIGTERM at step" in errors
    folder = only(tmp_path)
    assert (folder / "last.pt").exists() and not (folder / "failed.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["aodnet", "lightdehazenet"])
def test_published_networks_in_two_processes(tmp_path: Path, model: str) -> None:
    words = [f"model={model}", "train.steps=5", "train.batch=4", "train.crop=32"]
    for count, name in ((1, "one"), (2, "two")):
        done = start(count, tiny.overrides(tmp_path / name, *words))
        assert done.returncode == 0, done.stderr
    assert difference(tmp_path / "one", tmp_path / "two") < 1e-6

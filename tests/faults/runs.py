"""Small runs in processes of their own, what they leave, and whether two of them left the same."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import torch
from safetensors.torch import load_file

import dehaze_bench.data.raster  # with `run` all that a start imports, before processes are forked
import dehaze_bench.run  # noqa: F401
from dehaze_bench.weights import read_metadata
from tests import tiny
from tests.faults import strike as striking

ROOT = Path(__file__).resolve().parents[2]
Strike = tuple[str, int, str]
COMMAND = (sys.executable, "-m", "dehaze_bench")
BEST = "best.safetensors"
CLOCKED = {"images_per_second", "data_wait"}  # what a line of metrics.jsonl says about time and not about the run
STATE = ("step", "best", "model", "optimizer", "scaler", "ema")  # of a checkpoint
RUN = [
    *tiny.NETWORK, "train.steps=60", "train.batch=2", "train.crop=32", "train.ema=0.9", "train.accumulate=2",
    "train.select=best@val", "train.val_images=2", "train.eval_every=15", "dataset.scenes=8", "dataset.cache_scenes=8",
    "runtime.workers=1", "runtime.threads=1", "runtime.save_every=4", "runtime.log_every=3",
]  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a process ended: code (negative for a signal), what it said, seconds it took."""

    code: int
    said: str
    seconds: float

    @property
    def last(self) -> str:
        """The last line of what it said, which is its error where it has one."""
        lines = [line for line in self.said.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def arguments(folder: Path, *more: str) -> list[str]:
    """Return the arguments of a training run under `folder`; all of them read the same test pictures."""
    return ["train", *tiny.overrides(_pictures(), *RUN, *more), f"paths.runs={folder}/runs"]


@functools.cache
def _pictures() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Forked:
    """A run in a process forked from this one: the program from its entry on, without importing torch once more."""

    def __init__(self, given: Sequence[str], strike: Strike | None, output: IO[str]) -> None:
        self.args = [*COMMAND, *given]
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _become(given, strike, output)

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        """Wait for the exit code; raises as `subprocess.Popen.wait` does."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode


def _become(given: Sequence[str], strike: Strike | None, output: IO[str]) -> NoReturn:
    """Turn this fork of the test process into the command line; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
        sys.stdout, sys.stderr = (open(stream, "w", buffering=1, closefd=False) for stream in (1, 2))  # noqa: SIM115
        logging.getLogger().handlers.clear()
        torch.set_num_threads(1)
        striking.run(*(strike or ("", 0, "")), list(given))
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def start(
    given: Sequence[str], strike: Strike | None = None, fresh: bool = False, count: int = 1, **environment: str
) -> Running:
    """Start the command line as the leader of a process group, with a fault as `strike.py` takes it.

    A fresh one is a new interpreter, with more in its environment, or `count` of them under torchrun; others are
    forked, which takes a third of the time.
    """
    output = tempfile.TemporaryFile("w+")  # noqa: SIM115
    if not fresh:
        assert not environment and count == 1
        return Running(Forked(given, strike, output), output)
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)] if count > 1 else []
    program = ["-m", "dehaze_bench", *given]
    if strike is not None:
        program = [str(ROOT / "tests/faults/strike.py"), *map(str, strike), "--", *given]
    command = [sys.executable, *several, *program]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    process = subprocess.Popen(
        command, stdout=output, stderr=subprocess.STDOUT, env=variables, process_group=0, cwd=ROOT
    )
    return Running(process, output)


class Running:
    """A process that was started, and what it says."""

    def __init__(self, process: Forked | subprocess.Popen[bytes], output: IO[str]) -> None:
        self.process, self.output, self.pid = process, output, process.pid
        self.began = time.monotonic()

    def end(self, timeout: float = 300) -> Ended:
        """Wait for the end; a process that hangs is killed with its group, and the test fails."""
        try:
            code = self.process.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait(timeout=10)
            raise AssertionError(f"hangs: {self.process.args}\n{self.said()}") from None
        return Ended(code, self.said(), time.monotonic() - self.began)

    def said(self) -> str:
        """Return all that the process has said."""
        self.output.seek(0)
        return self.output.read()


def run(
    given: Sequence[str], strike: Strike | None = None, fresh: bool = False, count: int = 1, **environment: str
) -> Ended:
    """Do one command to its end."""
    return start(given, strike, fresh, count, **environment).end()


def finish(given: Sequence[str], fresh: bool = False, count: int = 1) -> Ended:
    """Do one command that must succeed."""
    ended = run(given, fresh=fresh, count=count)
    assert ended.code == 0, ended.said
    return ended


def folder_of(root: Path) -> Path:
    """Return the only run directory under `root`."""
    (folder,) = (path for path in (root / "runs").iterdir() if path.is_dir())
    return folder


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of `metrics.jsonl` without what depends on the clock."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in CLOCKED} for line in lines]


def saved_step(folder: Path, name: str = "last.pt") -> int:
    """Return the step of a checkpoint, 0 where there is none."""
    path = folder / name
    return int(torch.load(path, weights_only=True)["step"]) if path.exists() else 0


def logged_step(folder: Path) -> int:
    """Return the step of the last whole line of `metrics.jsonl`, 0 where there is none."""
    path, step = folder / "metrics.jsonl", 0
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            step = max(step, json.loads(line)["step"])
        except ValueError:
            break
    return step


def lost_steps(folder: Path) -> int:
    """Return how many of the steps that are logged are not saved."""
    return max(0, logged_step(folder) - saved_step(folder))


def differences(whole: Path, other: Path) -> list[str]:
    """Return in what two run directories differ: files, weights and optimiser to the bit, metrics, results."""
    found = []
    names = [{str(path.relative_to(folder)) for path in folder.rglob("*")} for folder in (whole, other)]
    found += [f"only in one: {name}" for name in sorted(names[0] ^ names[1])]
    if (whole / "per_image.csv").read_bytes() != (other / "per_image.csv").read_bytes():
        found.append("per_image.csv")
    weights = [(load_file(folder / BEST), read_metadata(folder / BEST)) for folder in (whole, other)]
    if not _equal(*weights):
        found.append(BEST)
    states = [torch.load(folder / "last.pt", weights_only=True) for folder in (whole, other)]
    found += [f"last.pt: {key}" for key in STATE if not _equal(states[0][key], states[1][key])]
    lines = [read_metrics(folder) for folder in (whole, other)]
    if lines[0] != lines[1]:
        found.append(f"metrics.jsonl: {[line for line in lines[1] if line not in lines[0]]}, {len(lines[1])} lines")
    results = [json.loads((folder / "result.json").read_text(encoding="utf-8")) for folder in (whole, other)]
    if results[0]["evaluation"]["metrics"] != results[1]["evaluation"]["metrics"]:
        found.append("result.json")
    return found


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(_equal, left, right))
    return bool(left == right)

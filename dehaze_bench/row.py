"""One row of a sweep, by default in a process of its own: what kills it or lets it hang ends this row and no other.

The launcher's process starts a child, passes signals on to it, ends it at `runtime.timeout`, and says what became of
it. Of a child that could not speak for itself (killed, out of memory) a record of the failure is written here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from dehaze_bench.compose import Composed, compose_run, identify_run
from dehaze_bench.errors import BenchError, Requeue, UsageError
from dehaze_bench.results.fields import Fields
from dehaze_bench.results.files import read_json, write_json_atomic
from dehaze_bench.results.record import RESULT, Failure, write_failure

# Between the request to stop, at which a run saves, and the end by force.
GRACE_S = 60.0
# A terminal sends one Ctrl-C to several processes, which pass it on: only a later one is the user's second.
SECOND_PRESS_S = 1.5
POLL_S = 0.5
FORWARDED = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")

# Set by the first row of this process that a signal stopped: the rows after it are not started.
stopped: list[str] = []
# The signals that this process passed on to a row.
signals: list[str] = []


@dataclass(frozen=True)
class Status:
    """What became of one row: state is "done", "skipped" (was done before), "failed" or "requeue"."""

    label: str
    run: str
    state: str
    seconds: float
    message: str = ""
    exit_code: int = 0


def run(overrides: Sequence[str]) -> dict[str, Any]:
    """Do one row and return its status as plain data; never raises for a row that failed."""
    started = time.perf_counter()
    if stopped:
        return asdict(Status("", "", "requeue", 0.0, f"Not started: {stopped[0]}", Requeue.exit_code))
    try:
        composed = compose_run(overrides)
        name = identify_run(composed).name
    except BenchError as error:
        return asdict(Status("", "", "failed", time.perf_counter() - started, str(error), 1))
    runtime = composed.cfg.runtime
    found = _apart(composed, name, runtime.timeout) if runtime.isolate else _here(composed, name)
    if found.state == "requeue":
        stopped.append(found.message)
    return asdict(found)


def _here(composed: Composed, name: str) -> Status:
    from dehaze_bench import run as runs

    started = time.perf_counter()
    state, message, code = "failed", "", 1
    try:
        outcome = runs.execute(composed)
        state, code = ("skipped" if outcome.skipped else "done"), 0
    except Requeue as error:
        state, message, code = "requeue", str(error), error.exit_code
    except BenchError as error:
        message = str(error)
    except Exception as error:  # a bug outside the run itself is that row's failure, too
        message = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    return Status("", name, state, time.perf_counter() - started, message, code)


def _apart(composed: Composed, name: str, timeout_min: float | None) -> Status:
    started = time.monotonic()
    deadline = None if timeout_min is None else started + 60 * timeout_min
    with tempfile.TemporaryDirectory(prefix="dehaze-row-") as folder:
        report = Path(folder) / "status.json"
        command = [sys.executable, "-P", "-m", "dehaze_bench.row", str(report), *composed.overrides]
        # Where our process finds modules the child finds them: -P alone would lose what stands beside a script.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        # The pipe tells the child that we are gone; its own session keeps signals to our group from reaching it twice.
        child = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)
        with _Forward(child) as forward:
            expired = _wait(child, deadline, forward)
        seconds = time.monotonic() - started
        with contextlib.suppress(UsageError):  # none, or torn: the child ended before it could speak
            told = _read_status(report)
            if not (expired and told.state == "requeue"):
                return told
    if expired:
        message = f"Ended after {timeout_min:g} min, its runtime.timeout; what it had saved is kept."
    elif forward.received:
        message = f"Stopped by {forward.received}; what it had saved is kept. Start it again to go on."
        return Status("", name, "requeue", seconds, message, Requeue.exit_code)
    elif child.returncode < 0:
        message = f"Killed by {_name(-child.returncode)}{_guess(-child.returncode)}."
    else:
        message = f"The process ended with exit code {child.returncode} before it could say why."
    record_loss(composed, message)
    return Status("", name, "failed", seconds, message, 1)


def record_loss(composed: Composed, message: str) -> None:
    """Write `failed.json` for a run whose process could not write it; one that is done stays done."""
    identity = identify_run(composed)
    folder = Path(composed.cfg.paths.runs) / identity.name
    if (folder / RESULT).exists():
        return
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    trace = f"No traceback: {message}\n"
    with contextlib.suppress(OSError):  # the status says it in any case
        folder.mkdir(parents=True, exist_ok=True)
        write_failure(folder, Failure(identity.id, identity.slug, message, "LostProcess", trace, now, 1))


class _Forward:
    """While open, signals to this process go to the child: the first asks it to save and stop, a second Ctrl-C kills.

    `received` names the first. In a thread other than the main one, where Python allows no handlers, nothing happens.
    """

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child
        self.received: str | None = None
        self.at = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _Forward:
        if threading.current_thread() is threading.main_thread():
            for name in FORWARDED:
                number = getattr(signal, name)
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self.at = _name(number), time.monotonic()
            signals.append(self.received)
            self.child.terminate()
        elif number == signal.SIGINT and time.monotonic() - self.at > SECOND_PRESS_S:
            _kill(self.child)


def _wait(child: subprocess.Popen[bytes], deadline: float | None, forward: _Forward) -> bool:
    """Wait for the child and return whether the deadline ended it."""
    asked = None
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(POLL_S)
            return asked is not None
        now = time.monotonic()
        if asked is None and deadline is not None and now > deadline:
            child.terminate()
            asked = now
        since = asked if asked is not None else forward.at if forward.received else now
        if now - since > GRACE_S:
            _kill(child)


def _kill(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # its data loading processes, too


def _read_status(path: Path) -> Status:
    fields = Fields(read_json(path), str(path))
    texts = {name: fields.text(name) for name in ("label", "run", "state", "message")}
    return Status(**texts, seconds=fields.number("seconds"), exit_code=fields.integer("exit_code"))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _guess(number: int) -> str:
    return ", as the system does when memory runs out" if number == signal.SIGKILL else ""


def _follow(descriptor: int) -> None:
    """Stop this process, as SIGTERM does, when the pipe at `descriptor` closes: the process that started it is gone."""
    with contextlib.suppress(OSError):
        os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(Requeue.exit_code)


def main(argv: Sequence[str]) -> int:
    """The child: do the row of the overrides `argv[1:]` and write its status to the file `argv[0]`."""
    # Slurm signals every process of a job. This one is for the launcher's, which passes on a SIGTERM.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    threading.Thread(target=_follow, args=(sys.stdin.fileno(),), daemon=True).start()
    composed = compose_run(argv[1:])
    found = _here(composed, identify_run(composed).name)
    write_json_atomic(Path(argv[0]), asdict(found))
    return found.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

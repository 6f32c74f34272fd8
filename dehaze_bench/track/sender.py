"""A process of its own that is told things, may take its time, and can be given up at any moment.

`tell` never blocks: a thread writes into the pipe. A message is one line of JSON; arrays follow it as raw bytes, so
that nothing is pickled. The process answers with lines of JSON, its reports.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dehaze_bench.track.sink import Image

_ROOT = Path(__file__).resolve().parents[2]
_ARRAYS = "arrays"
_DEATH_SECONDS = 0.4


class Sender:
    """Runs `python -m module` in a session of its own, where a Ctrl-C at the terminal does not reach it."""

    def __init__(self, module: str, environment: Mapping[str, str], log: Path) -> None:
        """Start the process, whose stderr goes to the file `log`; raises OSError where that is impossible."""
        found = os.pathsep.join(filter(None, [str(_ROOT), environment.get("PYTHONPATH", "")]))
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                env={**environment, "PYTHONPATH": found},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._messages: queue.SimpleQueue[tuple[dict[str, Any], Sequence[Image]] | None] = queue.SimpleQueue()
        self._reports: list[dict[str, Any]] = []
        self._ended = False
        self._news = threading.Condition()
        for work in (self._write, self._read):
            threading.Thread(target=work, daemon=True).start()

    def tell(self, message: dict[str, Any], arrays: Sequence[Image] = ()) -> None:
        """Send a message and uint8 arrays as soon as the process takes them."""
        self._messages.put((message, arrays))

    def wait(self, kind: str, seconds: float) -> dict[str, Any] | None:
        """Return the report of a kind, or None where the process ends or the seconds pass without one."""
        end = time.monotonic() + seconds
        with self._news:
            while True:
                found = next((report for report in self._reports if report["kind"] == kind), None)
                left = end - time.monotonic()
                if found is not None or self._ended or left <= 0:
                    return found
                self._news.wait(left)

    @property
    def ended(self) -> bool:
        """Whether the process has closed its end."""
        return self._ended

    def stop(self) -> None:
        """End the process and those that it started, at once."""
        self._messages.put(None)
        kill_tree(self._process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in the kernel, on a disk that is gone
            self._process.wait(_DEATH_SECONDS)

    def _write(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # the process is gone: the reader notices
            while (item := self._messages.get()) is not None:
                write_message(self._process.stdin, *item)
            self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news, contextlib.suppress(ValueError):
                self._reports.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


def write_message(stream: IO[bytes], message: dict[str, Any], arrays: Sequence[Image] = ()) -> None:
    """Write one message and the bytes of its arrays."""
    import numpy as np

    shapes = [list(array.shape) for array in arrays]
    stream.write(json.dumps({**message, _ARRAYS: shapes}, default=str).encode() + b"\n")
    for array in arrays:
        stream.write(np.ascontiguousarray(array).data)
    stream.flush()


def read_message(stream: IO[bytes]) -> tuple[dict[str, Any], list[Image]] | None:
    """Read one message and its uint8 arrays; None at the end of the stream, also in the middle of a message."""
    import numpy as np

    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    message: dict[str, Any] = json.loads(line)
    arrays = []
    for shape in message.pop(_ARRAYS):
        size = int(np.prod(shape))
        body = stream.read(size)
        if len(body) < size:
            return None
        arrays.append(np.frombuffer(body, np.uint8).reshape(shape))
    return message, arrays


def kill_tree(pid: int) -> None:
    """Kill a process and all that descend from it, wherever Linux says who does; elsewhere the process alone."""
    for each in [pid, *descendants(pid)]:
        with contextlib.suppress(OSError):
            os.kill(each, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Return the processes that descend from a process, as far as /proc tells."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError, ValueError):
            for child in map(int, path.read_text().split()):
                found += [child, *descendants(child)]
    return found

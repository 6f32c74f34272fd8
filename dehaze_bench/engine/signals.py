"""A stop request is a flag: the loop looks at it at the end of a step, an evaluation after each image."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType


class StopFlag:
    """Set by SIGTERM, SIGUSR1 or the first Ctrl-C while the context is open; the second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self._pid = os.getpid()
        self._previous: dict[int, object] = {}

    def __bool__(self) -> bool:
        return self.signal is not None

    def __enter__(self) -> StopFlag:
        # Python allows handlers in the main thread only; elsewhere (a launcher's worker thread) runs just go on.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()

    def describe(self) -> str:
        """Return what stopped this process; of several only one may have got the signal."""
        return self.signal or "a signal to another process"

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            self._on_signal_in_worker(number)
            return
        if number == signal.SIGINT and self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number).name
        if number == signal.SIGINT:
            with contextlib.suppress(OSError):  # not print: the signal may have come in the middle of one
                os.write(2, b"\nCtrl-C: this step is finished and saved first; once more stops at once\n")

    def _on_signal_in_worker(self, number: int) -> None:
        """A data worker inherits the handler. What was sent to the whole group is its parent's affair, and the parent
        still needs the worker; a second SIGTERM, which the parent sends to one that does not end, ends it."""
        if number == signal.SIGTERM:
            if self.signal is not None:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            self.signal = signal.Signals(number).name

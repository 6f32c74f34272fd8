"""Progress on the terminal: a live bar on a tty, plain lines in a log file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from dehaze_bench.track.sink import EvaluationView, RunInfo


class ConsoleSink:
    """Shows step, loss, learning rate, images per second, time spent waiting for data, and the time to go."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._clock = clock
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._run: RunInfo | None = None
        self._started = 0.0

    def start(self, run: RunInfo) -> None:
        self._run, self._started = run, self._clock()
        begin = f"resumes after step {run.resumed}" if run.resumed else "starts"
        self._say(f"{run.slug}-{run.id} {begin}" + (f", {run.steps} steps" if run.steps else ""))
        if self._console.is_terminal and run.steps:
            columns = (BarColumn(bar_width=24), TextColumn("{task.description}"))
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._task = self._progress.add_task("", total=run.steps, completed=run.resumed)
            self._progress.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        line = "  ".join([self._position(step), *describe(values), *self._remaining(step)])
        if self._progress is not None:
            self._progress.update(self._task, completed=step, description=line)
        else:
            self._say(line)

    def evaluation(self, view: EvaluationView) -> None:
        means = "  ".join(f"{column} {value:.4g}" for column, value in view.means.items())
        count = f" ({len(view.rows)} images)" if view.rows else ""
        self._say(f"{self._position(view.step)}  {view.name}{count}: {means}")

    def finish(self, result: Mapping[str, Any]) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        seconds = self._clock() - self._started
        end = "failed" if "error" in result else "is done"
        if self._run is not None:
            self._say(f"{self._run.slug}-{self._run.id} {end} after {clock_time(seconds)}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def _position(self, step: int) -> str:
        total = self._run.steps if self._run else None
        return f"step {step}/{total}" if total else f"step {step}"

    def _remaining(self, step: int) -> list[str]:
        """The time to go at the mean speed since the start of this process."""
        if self._run is None or not self._run.steps or step <= self._run.resumed:
            return []
        pace = (self._clock() - self._started) / (step - self._run.resumed)
        return [f"ETA {clock_time(pace * max(self._run.steps - step, 0))}"]


def describe(values: Mapping[str, float]) -> list[str]:
    """Short texts for the known names in a fixed order, then `name value` for the rest."""
    known = {
        "loss": "loss {:.4f}",
        "lr": "lr {:.1e}",
        "images_per_second": "{:.1f} images/s",
        "data_wait": "wait {:.0%}",
    }
    texts = [form.format(values[name]) for name, form in known.items() if name in values]
    return texts + [f"{name} {value:.4g}" for name, value in values.items() if name not in known]


def clock_time(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

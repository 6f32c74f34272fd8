"""W&B as one sink: curves, a table of restored images per test set, the scan, configuration and result.

Local files are the truth and a tracker never costs a run. W&B itself runs in a process of its own (wandb_process.py),
so that nothing it does can hold the run up or end it: the run hands over what happens and waits only at its end, up to
`patience` seconds in all. Whatever goes wrong is one warning, which names the command that sends the run later.

Everything that W&B writes stays under `<run directory>/wandb`. Left alone it stages the pictures of a table in the home
directory, where a later `wandb sync` on another machine, or after a cleanup, misses them.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dehaze_bench.redaction import redact
from dehaze_bench.track.jsonl import read_history
from dehaze_bench.track.sender import Sender
from dehaze_bench.track.sink import EvaluationView, Mode, Picture, RunInfo
from dehaze_bench.track.wandb_content import LINK
from dehaze_bench.track.wandb_layout import Layout

_LOG = logging.getLogger(__name__)
_PROCESS = "dehaze_bench.track.wandb_process"
# How a run ends that another process will go on with: its last, perhaps unfinished step is then left to that one.
_PAUSES = ("Requeue", "KeyboardInterrupt")
_KILL_SECONDS = 1.0  # of the patience, kept for the end of the process
_REASON = 200  # characters of one reason in a warning

Scalar = str | float | int | None


class WandbSink:
    """Reports one run under its own id; a process that resumes the run continues the same W&B run.

    What the server holds already is not sent again. `mode="online"` falls back to offline files, with a warning, where
    there is no key or no server, unless `fallback` is false. `patience` bounds the seconds that the caller waits, over
    start, all calls and the end. `live` says that the run happens now: the machine is then watched beside it.
    After `finish`, `problem` says what was not sent and `url` where the run is to be seen; `view` has the `url` of a
    saved view, or `why` there is none.
    """

    def __init__(
        self,
        mode: Mode = "offline",
        project: str = "dehaze-bench",
        entity: str | None = None,
        max_images: int = 8,
        patience: float = 15.0,
        live: bool = True,
        fallback: bool = True,
    ) -> None:
        self.mode = mode
        self.project = project
        self.entity = entity
        self.max_images = max_images
        self.patience = patience
        self.live = live
        self.fallback = fallback
        self.problem = ""
        self.view: dict[str, Any] = {}
        self._sender: Sender | None = None
        self._last: dict[str, Any] | None = None
        self._spent = 0.0
        self._dir = Path()

    @property
    def reached(self) -> bool:
        """Whether W&B has started, online or offline."""
        return self._opened(0.0) is not None

    @property
    def url(self) -> str:
        """Where the run is to be seen, once the server has answered; empty before and offline."""
        report = self._opened(0.0)
        return str(report.get("url") or "") if report else ""

    def start(self, run: RunInfo) -> None:
        if self.mode == "disabled":
            return
        self._dir = run.dir
        with self._counted():
            try:
                earlier = list(read_history(run.dir / "metrics.jsonl")) if run.resumed else []
                self._sender = Sender(_PROCESS, _environment(run.dir, self.mode), run.dir / "wandb" / "process.log")
            except (OSError, ValueError) as error:
                self._warn([f"it does not start ({error})"])
                return
            self._sender.tell(
                {
                    "id": run.id,
                    "name": f"{run.slug}-{run.id}",
                    "group": run.group or run.slug,
                    "config": dict(run.config),
                    "dir": str(run.dir.absolute()),
                    "mode": self.mode,
                    "project": self.project,
                    "entity": self.entity,
                    "fallback": self.fallback,
                    "live": self.live,
                    "resumed": run.resumed,
                }
            )
            for step, values in earlier:
                if step <= run.resumed:  # W&B may have missed it
                    self._tell({"do": "log", "step": step, "values": values})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        with self._counted():
            self._tell({"do": "log", "step": step, "values": _numbers(values)})

    def evaluation(self, view: EvaluationView) -> None:
        means = {f"{view.name}/{column}": value for column, value in _numbers(view.means).items()}
        with self._counted():
            self._tell({"do": "log", "step": view.step, "values": means})
            if view.rows:
                self._tell({"do": "summary", "values": means})
                self._tell_pictures(view)

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Scalar]]) -> None:
        """Show a plain table under `key`; where a cell holds a W&B address it becomes a link."""
        self._tell({"do": "table", "key": key, "columns": list(columns), "rows": [list(row) for row in rows]})

    def files(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Keep files as an artifact; PNG files among them are shown, too."""
        self._tell({"do": "files", "name": name, "type": kind, "paths": [str(path.absolute()) for path in paths]})

    def layout(self, layout: Layout) -> None:
        """Save a view of the project; `view` says afterwards what became of it."""
        self._tell({"do": "layout", "layout": layout.to_dict()})

    def finish(self, result: Mapping[str, Any]) -> None:
        if self._sender is None:
            return
        end = "pause" if result.get("type") in _PAUSES else "failed" if "error" in result else "done"
        with self._counted():
            self._tell({"do": "finish", "end": end, "summary": _summary(result)})
        with self._counted():
            try:
                report = self._sender.wait("finished", self._left())
                self._judge(report, self._sender)
            finally:
                self.view = self._sender.wait("layout", 0.0) or {}
                self._sender.stop()
                self._last, self._sender = self._opened(0.0), None
            if self.url and not self.problem:
                _drop_copies(self._dir / "wandb")

    def _opened(self, seconds: float) -> dict[str, Any] | None:
        return self._sender.wait("opened", seconds) if self._sender is not None else self._last

    def _judge(self, report: dict[str, Any] | None, sender: Sender) -> None:
        """Warn of what did not reach its place."""
        opened = sender.wait("opened", 0.0)
        why = [str(opened["why"])] if opened and opened["why"] else []
        if report is None:
            server = str(opened["url"]).partition("/runs/")[0] if opened else ""
            work = f"sending to {server}" if server else "writing" if opened else "the start"
            state = "ended too early" if sender.ended else f"was not done within {self.patience:g} s"
            self._warn([*why, f"{work} {state}"])
        elif report["unsent"]:
            self._warn([*why, *report["unsent"]])
        elif why:
            self._warn([*why, "this run was tracked offline"])

    def _tell_pictures(self, view: EvaluationView) -> None:
        """Hand over the rows of a test set, and the pictures of the first few."""
        shown = list(view.pictures)[: self.max_images]
        arrays = [array for picture in shown for array in _arrays(picture)]
        pictures = [{"name": picture.name, "truth": picture.truth is not None} for picture in shown]
        metrics = list(view.rows[0][1])
        rows = [[name, *(values.get(metric) for metric in metrics)] for name, values in view.rows]
        message = {"do": "pictures", "key": f"{view.name}/images", "metrics": metrics, "rows": rows}
        self._tell({**message, "pictures": pictures}, arrays)

    def _tell(self, message: dict[str, Any], arrays: Sequence[Any] = ()) -> None:
        if self._sender is not None:
            self._sender.tell(message, arrays)

    def _left(self) -> float:
        return max(self.patience - self._spent - _KILL_SECONDS, 0.0)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Take the time of the block from the patience."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._spent += time.monotonic() - began

    def _warn(self, reasons: Sequence[str]) -> None:
        """Say in one line what happened, and what sends the run later."""
        shown = [" ".join(redact(reason).split())[:_REASON] for reason in reasons[:2]]
        more = [f"and {len(reasons) - 2} more"] if len(reasons) > 2 else []
        self.problem = "; ".join([*shown, *more])
        if self.live:
            command = f"dehaze-bench publish {shlex.quote(str(self._dir))}"
            _LOG.warning("W&B: %s. Nothing is lost: `%s` sends all of it later.", self.problem, command)


def _arrays(picture: Picture) -> list[Any]:
    return [array for array in (picture.hazy, picture.restored, picture.truth) if array is not None]


def _numbers(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def link(run_id: str, path: str) -> str:
    """A cell for `WandbSink.table` that becomes the address of a run, or its path where there is no server."""
    return f"{LINK}{run_id} {path}"


def _summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """The result without its configuration (already there) and without a traceback."""
    kept = {name: value for name, value in result.items() if name not in ("config", "traceback", "id")}
    return kept | ({"error": redact(str(result["error"]))} if "error" in result else {})


def _drop_copies(folder: Path) -> None:
    """Remove the second and third copy of every picture that W&B keeps of what it has sent."""
    for name in ("artifacts", "cache", "data"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _environment(run_dir: Path, mode: Mode) -> dict[str, str]:
    """The environment of the process, with W&B's folders inside the run directory.

    Online, the user's own configuration folder stays in place: it names the server that `wandb login` chose.
    """
    inside = run_dir / "wandb"
    folders = {"WANDB_DIR": run_dir, "WANDB_DATA_DIR": inside / "data", "WANDB_CACHE_DIR": inside / "cache"}
    folders["WANDB_ARTIFACT_DIR"] = inside / "artifacts"
    if mode == "offline":
        folders["WANDB_CONFIG_DIR"] = inside / "config"
    inside.mkdir(parents=True, exist_ok=True)
    new = {name: str(folder.absolute()) for name, folder in folders.items()}
    return {**os.environ, **new, "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}

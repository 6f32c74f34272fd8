"""W&B as one sink: history, a table of restored images per test set, comparison tables.

Everything that W&B writes stays under `<run directory>/wandb`. Left alone it stages the pictures of a table
in the home directory, where a later `wandb sync` on another machine, or after a cleanup, misses them. A
tracker never costs a run: every failure is one warning, after which the sink is silent.
"""

from __future__ import annotations

import logging
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dehaze_bench.track.pictures import error_map
from dehaze_bench.track.sink import EvaluationView, Mode, RunInfo

if TYPE_CHECKING:
    from dehaze_bench.track.sink import Picture

_LOG = logging.getLogger(__name__)
_PROBE_SECONDS = 2.0
_PICTURE_COLUMNS = ("hazy", "restored", "truth", "error")

Scalar = str | float | int | None


class WandbSink:
    """Reports one run under its own id; a second process that resumes the run continues the same W&B run.

    `mode="online"` falls back to offline, with a warning, when the server does not answer a 2 s probe, when
    there is no key, or when `init` fails within `init_timeout` seconds. The last upload may take
    `finish_timeout` seconds: what is not sent by then stays on disk for `wandb sync`.
    """

    def __init__(
        self,
        mode: Mode = "offline",
        project: str = "dehaze-bench",
        entity: str | None = None,
        max_images: int = 8,
        init_timeout: float = 10.0,
        finish_timeout: float = 30.0,
    ) -> None:
        self.mode = mode
        self.project = project
        self.entity = entity
        self.max_images = max_images
        self.init_timeout = init_timeout
        self.finish_timeout = finish_timeout
        self._run: Any = None
        self._failed = False
        self._environment: dict[str, str | None] = {}

    def start(self, run: RunInfo) -> None:
        if self.mode == "disabled":
            return
        with self._surviving("start"):
            self._environment = _redirect(run.dir, self.mode)
            self._run = self._open(run)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if self._live:
            with self._surviving("log"):
                self._run.log(dict(values), step=step)

    def evaluation(self, view: EvaluationView) -> None:
        if not self._live:
            return
        with self._surviving("evaluation"):
            values: dict[str, Any] = {f"{view.name}/{column}": value for column, value in view.means.items()}
            if view.rows:
                values[f"{view.name}/images"] = _image_table(view, self.max_images)
            self._run.log(values, step=view.step)

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Scalar]]) -> None:
        """Log a plain table under `key`."""
        if self._live:
            import wandb

            with self._surviving("table"):
                data = [list(row) for row in rows]
                self._run.log({key: wandb.Table(columns=list(columns), data=data, allow_mixed_types=True)})

    def finish(self, result: Mapping[str, Any]) -> None:
        try:
            if self._run is not None:
                with self._surviving("finish"):
                    self._run.summary.update(_summary(result))
                    self._run.finish(exit_code=1 if "error" in result else 0)
                with self._surviving("teardown"):
                    import wandb

                    wandb.teardown()  # the next run of this process reads its own environment
        finally:
            self._run = None
            _restore(self._environment)

    @property
    def _live(self) -> bool:
        return self._run is not None and not self._failed

    def _open(self, run: RunInfo) -> Any:
        import wandb

        mode = self.mode
        if mode == "online":
            problem = _why_offline()
            if problem:
                _LOG.warning("W&B: %s; this run is tracked offline", problem)
                mode = "offline"
        try:
            return self._init(run, mode)
        except Exception as error:
            if mode == "offline":
                raise
            _LOG.warning("W&B: %s; this run is tracked offline", error)
            wandb.teardown()  # frees the run id that the attempt has taken
            return self._init(run, "offline")

    def _init(self, run: RunInfo, mode: Mode) -> Any:
        import wandb

        return wandb.init(
            mode=mode,
            project=self.project,
            entity=self.entity,
            id=run.id,
            name=f"{run.slug}-{run.id}",
            group=run.group or None,
            config=dict(run.config),
            dir=run.dir,
            resume="allow",
            settings=wandb.Settings(
                init_timeout=self.init_timeout,
                finish_timeout=self.finish_timeout,
                silent=True,
                console="off",
                save_code=False,
                disable_git=True,
            ),
        )

    @contextmanager
    def _surviving(self, what: str) -> Iterator[None]:
        """Turn any failure of the tracker into one warning; nothing is sent after it."""
        try:
            yield
        except Exception as error:
            _LOG.warning("W&B stops (%s: %s: %s); the run goes on", what, type(error).__name__, error)
            self._failed = True


def publish_table(
    name: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Scalar]],
    directory: Path,
    mode: Mode = "offline",
    project: str = "dehaze-bench",
    entity: str | None = None,
) -> list[Path]:
    """Log an experiment's comparison table, one row per backbone; returns the `.wandb` files written.

    The W&B run is named after the experiment, so publishing again renews the same table. Where W&B fails the
    reason is logged as a warning and the list is empty.
    """
    directory.mkdir(parents=True, exist_ok=True)
    run_id = f"table-{name}"
    sink = WandbSink(mode=mode, project=project, entity=entity)
    sink.start(RunInfo(id=run_id, slug="experiment", dir=directory, config={"experiment": name}))
    sink.table("comparison", columns, rows)
    sink.finish({})
    return sorted(directory.glob(f"wandb/*-{run_id}/run-{run_id}.wandb"))


def _image_table(view: EvaluationView, max_images: int) -> Any:
    """One row per test image with its metrics; the first rows carry pictures."""
    import wandb

    metrics = list(view.rows[0][1])
    measured = dict(view.rows)
    shown = {picture.name: picture for picture in list(view.pictures)[:max_images]}
    names = [*shown, *(name for name in measured if name not in shown)]
    table = wandb.Table(columns=["name", *_PICTURE_COLUMNS, *metrics], allow_mixed_types=True)
    for name in names:
        values = measured.get(name, {})
        images = _images(shown[name]) if name in shown else [None] * len(_PICTURE_COLUMNS)
        table.add_data(name, *images, *(values.get(metric) for metric in metrics))
    return table


def _images(picture: Picture) -> list[Any]:
    import wandb

    images = [wandb.Image(picture.hazy), wandb.Image(picture.restored)]
    if picture.truth is None:
        return [*images, None, None]
    return [*images, wandb.Image(picture.truth), wandb.Image(error_map(picture.restored, picture.truth))]


def _summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """The result without its configuration (already there) and without a traceback."""
    return {name: value for name, value in result.items() if name not in ("config", "traceback", "id")}


def _redirect(run_dir: Path, mode: Mode) -> dict[str, str | None]:
    """Point W&B's folders into the run directory; returns the old environment for `_restore`.

    Online, the user's own configuration folder stays in place: it names the server that `wandb login` chose.
    """
    inside = run_dir / "wandb"
    folders = {"WANDB_DIR": run_dir, "WANDB_DATA_DIR": inside / "data", "WANDB_CACHE_DIR": inside / "cache"}
    folders["WANDB_ARTIFACT_DIR"] = inside / "artifacts"
    if mode == "offline":
        folders["WANDB_CONFIG_DIR"] = inside / "config"
    inside.mkdir(parents=True, exist_ok=True)
    new = {name: str(folder.absolute()) for name, folder in folders.items()} | {"WANDB_ERROR_REPORTING": "false"}
    old = {name: os.environ.get(name) for name in new}
    os.environ.update(new)
    return old


def _restore(environment: dict[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    environment.clear()


def _why_offline() -> str:
    """Why W&B cannot work online, found out within about two seconds; empty where it probably can."""
    import wandb

    wanted = os.environ.get("WANDB_MODE", "online")
    if wanted != "online":
        return f"WANDB_MODE={wanted} is set"
    url = wandb.setup(settings=wandb.Settings(silent=True)).settings.base_url
    address = urllib.parse.urlparse(urllib.request.getproxies().get(urllib.parse.urlparse(url).scheme, url))
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), _PROBE_SECONDS).close()
    except OSError as error:
        return f"no connection to {url} ({error})"
    return "" if wandb.login(prompt=False, verify=False) else f"no key for {url}: run `wandb login` first"

"""The process in which W&B runs, apart from the run that it is told of: opens, replays, finishes, reports.

Started by `WandbSink`. The first message says which run; then follow what to send and, last, how the run ended. A pipe
that closes before that means that the run was killed. Steps that the server holds are not sent again, and the newest
step is held back until a later one or the end, so that no half of it is sent when the run goes on elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from dehaze_bench.track import wandb_content as content
from dehaze_bench.track.sender import descendants, kill_tree, read_message

if TYPE_CHECKING:
    from dehaze_bench.track.sink import Image

_PROBE_SECONDS = 3.0
_INIT_SECONDS = 10.0
_LINGER_SECONDS = 60.0  # for a run that was killed, and so waits for nobody


def main() -> None:
    """Do everything that stdin says; never raises, and ends with all that W&B has started."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):  # a stopping run still has something to say
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    source, reports = _claim_pipes()

    def report(kind: str, **values: Any) -> None:
        with contextlib.suppress(OSError):
            reports.write(json.dumps({"kind": kind, **values}) + "\n")
            reports.flush()

    first = read_message(source)
    if first is None:
        return
    replay = _Replay(first[0], report)
    while (item := read_message(source)) is not None:
        replay.take(*item)
        if replay.finished:
            break
    else:
        threading.Timer(_LINGER_SECONDS, _leave).start()
        replay.take({"do": "finish", "end": "pause", "summary": {}}, [])
    _leave()


class _Replay:
    """One W&B run: takes messages in turn; after the first failure of W&B it only remembers what was not sent."""

    def __init__(self, spec: dict[str, Any], report: Callable[..., None]) -> None:
        self.spec = spec
        self.finished = False
        self._report = report
        self._unsent: list[str] = []
        self._run: Any = None
        self._newest: tuple[int, dict[str, float]] | None = None
        self._start = 0
        with self._surviving("start"):
            self._run, why = _open(spec)
            self._start = self._first_step()
            report("opened", url="" if self._run.offline else self._run.url, why=why)
            scan = content.scan_picture(spec["config"].get("scan"), Path(spec["dir"]) / "wandb" / "scan.png")
            if scan is not None:
                self._run.summary["scan_picture"] = scan

    def take(self, message: dict[str, Any], arrays: list[Image]) -> None:
        """Do one message."""
        do = message["do"]
        if do == "finish":
            self._finish(message["end"], message["summary"])
        elif self._run is not None:
            with self._surviving(str(message.get("key") or do)):
                getattr(self, f"_{do}")(message, arrays)

    def _log(self, message: dict[str, Any], _: list[Image]) -> None:
        step, values = message["step"], message["values"]
        if self._newest is not None and step < self._newest[0]:
            return  # an evaluation of an earlier step's weights: its means are in the summary
        if self._newest is not None and step > self._newest[0]:
            self._flush()
        self._newest = (step, {**(self._newest[1] if self._newest else {}), **values})

    def _flush(self) -> None:
        if self._newest is not None:
            step, values = self._newest
            self._newest = None
            if step >= self._start:
                self._run.log(values, step=step)
                if self._run.offline and self.spec["live"]:
                    self._mark.write_text(str(step), encoding="utf-8")

    @property
    def _mark(self) -> Path:
        """The file that says how far the offline files of this run go, over all processes that worked on it."""
        return Path(self.spec["dir"]) / "wandb" / "offline-step"

    def _first_step(self) -> int:
        """The first step that the server, or for an offline run the offline files before this one, do not hold."""
        if not self._run.offline:
            return int(self._run.starting_step) if self._run.resumed else 0
        if not self.spec["live"] or not self.spec["resumed"]:
            return 0
        try:
            return int(self._mark.read_text(encoding="utf-8")) + 1
        except (OSError, ValueError):
            return int(self.spec["resumed"]) + 1

    def _summary(self, message: dict[str, Any], _: list[Image]) -> None:
        self._run.summary.update(message["values"])

    def _pictures(self, message: dict[str, Any], arrays: list[Image]) -> None:
        self._run.summary[message["key"]] = content.picture_table(message, arrays)

    def _table(self, message: dict[str, Any], _: list[Image]) -> None:
        base = "" if self._run.offline else str(self._run.url).rpartition("/runs/")[0]
        self._run.summary[message["key"]] = content.plain_table(message["columns"], message["rows"], base)

    def _files(self, message: dict[str, Any], _: list[Image]) -> None:
        paths = [Path(path) for path in message["paths"]]
        for path in paths:
            if path.suffix == ".png":
                self._run.summary[f"plots/{path.stem}"] = content.picture(path)
        self._keep(message["name"], message["type"], paths, {})

    def _layout(self, message: dict[str, Any], _: list[Image]) -> None:
        """Save a view where there is a server that takes it; a table without one is complete all the same."""
        url, why = "", "offline runs have none"
        if not self._run.offline:
            from dehaze_bench.track import wandb_layout

            try:
                url = wandb_layout.save(message["layout"], self._run, Path(self.spec["dir"]) / wandb_layout.MARK)
            except Exception as error:
                why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        self._report("layout", url=url, why="" if url else why)

    def _keep(self, name: str, kind: str, paths: list[Path], metadata: dict[str, Any]) -> None:
        artifact = content.artifact(name, kind, paths, metadata)
        if artifact is not None:
            self._run.log_artifact(artifact)

    def _finish(self, end: str, summary: dict[str, Any]) -> None:
        if self._run is not None:
            with self._surviving("finish"):
                if end == "pause":
                    self._newest = None  # the process that goes on sends this step whole
                self._flush()
                self._end(end, summary)
            offline = self._run.offline
            with self._surviving("finish"):
                import wandb

                self._run.finish(exit_code=0 if end == "done" else 1)
                wandb.teardown()  # only then is the last block of an offline file on the disk
            if not offline:
                self._unsent += content.refused(Path(self._run.settings.sync_dir))
        self.finished = True
        self._report("finished", unsent=list(dict.fromkeys(self._unsent)))

    def _end(self, end: str, summary: dict[str, Any]) -> None:
        """Send what is known at the end only: the result, the files of the run, a picture of its scan."""
        folder, run_id = Path(self.spec["dir"]), self.spec["id"]
        if end == "done":
            for stale in {"error", "type"} & set(self._run.summary.keys()):
                del self._run.summary[stale]
        self._run.summary.update(summary)
        if end == "pause":
            return
        paths = [folder / name for name in content.KEPT if (folder / name).is_file()]
        self._keep(f"run-{run_id}", "run", paths, content.weights(folder))

    @contextlib.contextmanager
    def _surviving(self, what: str) -> Iterator[None]:
        """Remember a failure of W&B; whatever it raises is no reason to stop the rest."""
        try:
            yield
        except Exception as error:
            text = str(error).strip().splitlines() or [type(error).__name__]
            self._unsent.append(f"{what} was not sent ({type(error).__name__}: {text[0]})")


def _open(spec: dict[str, Any]) -> tuple[Any, str]:
    """Return the W&B run, and why it is offline where it should not be."""
    import wandb

    if spec["mode"] == "offline":
        return _init(spec, "offline"), ""
    why = _why_offline()
    if not why:
        try:
            return _init(spec, "online"), ""
        except Exception as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            wandb.teardown()  # frees the run id that the attempt has taken
    if not spec["fallback"]:
        raise ConnectionError(why)
    return _init(spec, "offline"), why


def _init(spec: dict[str, Any], mode: Literal["online", "offline"]) -> Any:
    import wandb

    watched = {"x_stats_pid": os.getppid()} if spec["live"] else {}
    return wandb.init(
        mode=mode,
        project=spec["project"],
        entity=spec["entity"],
        id=spec["id"],
        name=spec["name"],
        group=spec["group"] or None,
        config=spec["config"],
        dir=spec["dir"],
        resume="allow",
        allow_val_change=True,
        settings=wandb.Settings(
            init_timeout=_INIT_SECONDS,
            silent=True,
            console="off",
            save_code=False,
            disable_git=True,
            x_disable_stats=not spec["live"],
            **watched,
        ),
    )


def _why_offline() -> str:
    """Why W&B cannot work online, found out within seconds; empty where it probably can."""
    import wandb

    wanted = os.environ.get("WANDB_MODE", "online")
    if wanted not in ("online", "shared"):
        return f"WANDB_MODE={wanted} is set"
    url = wandb.setup(settings=wandb.Settings(silent=True)).settings.base_url
    try:
        urllib.request.urlopen(url, timeout=_PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # an answer, if not a kind one: W&B will say more
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if "certificate" not in str(reason).lower():  # W&B may know authorities that Python does not
            return f"no answer from {url} ({str(reason) or type(reason).__name__})"
    return "" if wandb.login(prompt=False, verify=False) else f"no key for {url}: run `wandb login` first"


def _claim_pipes() -> tuple[IO[bytes], IO[str]]:
    """Keep stdin and stdout for ourselves: W&B's own process inherits the originals, and would keep them open."""
    source, reports = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    return source, reports


def _leave() -> None:
    """End at once, with W&B's own process, which would otherwise go on for as long as a server does not answer."""
    time.sleep(0.05)
    for pid in descendants(os.getpid()):
        kill_tree(pid)
        with contextlib.suppress(OSError):
            os.waitpid(pid, 0)
    os._exit(0)


if __name__ == "__main__":
    main()

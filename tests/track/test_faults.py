"""Whatever happens to W&B, the run goes on, waits 15 s at most in all, says so in one line, and loses nothing."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dehaze_bench import cli
from dehaze_bench.track.jsonl import read_history
from dehaze_bench.track.sender import descendants
from dehaze_bench.track.sink import RunInfo
from dehaze_bench.track.wandb import WandbSink
from tests import tiny
from tests.track.offline_file import history
from tests.track.server import Faults, Server, serving

KEY = "planted0secret0key0planted0secret0key000"
LIMIT = 15.0
CLOCKS = ("images_per_second", "data_wait")
RUN = (*tiny.NETWORK, *tiny.TRAINING, "train.steps=40", "track.console=false")


@dataclass(frozen=True)
class Fault:
    """One fault: of the server, of the environment, or something that is done while the run goes on."""

    name: str
    said: str  # a part of the warning; empty where none is due
    faults: Faults = field(default_factory=Faults)
    environment: dict[str, str] = field(default_factory=dict)
    during: Callable[[Server, Path], None] | None = None
    mode: str = "online"


def when_measured(act: Callable[[Server], None]) -> Callable[[Server, Path], None]:
    """Do something when the test set has been measured, and only the end is still to be reported."""

    def wait(server: Server, runs: Path) -> None:
        while not list(runs.glob("*/per_image.csv")):
            time.sleep(0.01)
        act(server)

    return wait


def kill(program: str) -> Callable[[Server, Path], None]:
    """Kill the process of W&B whose command line holds `program`, once the server knows the run."""

    def find(server: Server, _: Path) -> None:
        while not server.runs:
            time.sleep(0.01)
        for pid in descendants(os.getpid()):
            with contextlib.suppress(OSError):
                if program in Path(f"/proc/{pid}/cmdline").read_text():
                    os.kill(pid, signal.SIGKILL)

    return find


def block_folder(_: Server, runs: Path) -> None:
    """Put a file where W&B's folder should be, as soon as there is a run."""
    while not (found := list(runs.glob("*/lock"))):
        time.sleep(0.001)
    with contextlib.suppress(OSError):
        (found[0].parent / "wandb").touch()


UNDONE = "was not done within 15 s"
FAULTS = [
    Fault("none: W&B disabled", "", mode="disabled"),
    Fault("none: W&B offline", "", mode="offline"),
    Fault("none: W&B online", ""),
    Fault("address that cannot be reached", "no answer from", environment={"WANDB_BASE_URL": "http://192.0.2.1"}),
    Fault("port refuses", "Connection refused", environment={"WANDB_BASE_URL": "http://127.0.0.1:9"}),
    Fault("name does not resolve", "no answer from", environment={"WANDB_BASE_URL": "http://tracker.invalid"}),
    Fault("server accepts and never answers", "no answer from", Faults(silent=True)),
    Fault("401 at the start", "401", Faults(status=401)),
    Fault("no key", "run `wandb login` first", environment={"WANDB_API_KEY": ""}),
    Fault("WANDB_MODE=offline in the environment", "WANDB_MODE=offline is set", environment={"WANDB_MODE": "offline"}),
    Fault("every answer takes 2 s", UNDONE, Faults(delay=2)),
    Fault("server silent from the start of the run on", UNDONE, Faults(after=4, then=Faults(silent=True))),
    Fault("server dies in mid-run", UNDONE, Faults(after=4, then=Faults(dead=True))),
    Fault("500 in mid-run", UNDONE, Faults(after=4, then=Faults(status=500))),
    Fault("401 in mid-run", "Failed to verify credentials", Faults(after=4, then=Faults(status=401))),
    Fault("server dies when the run ends", UNDONE, during=when_measured(lambda server: server.die())),
    Fault("artifacts refused", "failed to log artifact", Faults(refuse=("CreateArtifact",))),
    Fault("files refused", "CreateRunFiles returned error", Faults(refuse=("CreateRunFiles",))),
    Fault("W&B's own process is killed", "was not sent", during=kill("wandb-core")),
    Fault("our process for W&B is killed", "ended too early", during=kill("track.wandb_process")),
    Fault("W&B's folder cannot be made", "it does not start", during=block_folder),
]


@contextlib.contextmanager
def timed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds that every call of the sink takes, as they are; nothing of it is replaced."""
    found: list[float] = []

    def clocked(call: Callable[..., None]) -> Callable[..., None]:
        def timing(*given: object) -> None:
            began = time.monotonic()
            try:
                call(*given)
            finally:
                found.append(time.monotonic() - began)

        return timing

    with monkeypatch.context() as patch:
        for name in ("start", "log", "evaluation", "finish"):
            patch.setattr(WandbSink, name, clocked(getattr(WandbSink, name)))
        yield found


def rows_of(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """The records of a run without clock readings."""
    found = read_history(folder / "metrics.jsonl")
    return [(step, {k: v for k, v in values.items() if k not in CLOCKS}) for step, values in found]


@dataclass
class Undisturbed:
    """What the run logs when nothing happens, and the table of what did."""

    rows: list[tuple[int, dict[str, float]]]
    lines: list[str]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    """The run without W&B; writes the table at the end, to $TRACK_FAULTS_TABLE or pytest's folder, and prints it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert cli.run(["train", *tiny.overrides(folder, *RUN)]) == 0
    (run,) = (folder / "runs").glob("*-????????")
    head = ("fault", "run waited, s", "exit code", "metrics lost", "what it says", "sent by `publish`")
    found = Undisturbed(rows_of(run), [f"| {' | '.join(head)} |", "|" + "---|" * len(head)])
    yield found
    place = Path(os.environ.get("TRACK_FAULTS_TABLE") or tmp_path_factory.getbasetemp() / "track_faults.md")
    place.write_text("\n".join(found.lines) + "\n", encoding="utf-8")
    print("\n" + "\n".join(found.lines))


@pytest.mark.faults
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_costs_a_run_nothing_but_seconds(
    fault: Fault,
    tmp_path: Path,
    undisturbed: Undisturbed,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    folder, rows = tmp_path / "runs", undisturbed.rows
    with serving(fault.faults) as server, timed(monkeypatch) as seconds, monkeypatch.context() as environment:
        for name, value in ({"WANDB_BASE_URL": server.url} | fault.environment).items():
            environment.setenv(name, value)
        if fault.during is not None:
            threading.Thread(target=fault.during, args=(server, folder), daemon=True).start()
        code = cli.run(["train", *tiny.overrides(tmp_path, *RUN), f"track.mode={fault.mode}"])
    (run,) = folder.glob("*-????????")
    warnings = [message for message in caplog.messages if message.startswith("W&B")]
    assert code == 0
    assert rows_of(run) == rows, "metrics.jsonl is that of the undisturbed run"
    assert (run / "result.json").exists()
    assert sum(seconds) <= LIMIT, seconds
    assert len(warnings) == bool(fault.said), warnings
    for warning in warnings:
        assert fault.said in warning and f"`dehaze-bench publish {run}`" in warning and KEY not in warning, warning
    for path in run.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    if (run / "wandb").is_file():
        (run / "wandb").unlink()
    with serving() as healthy, monkeypatch.context() as environment:
        environment.setenv("WANDB_BASE_URL", healthy.url)
        assert cli.run(["publish", str(run), "track.patience=200"]) == 0
        sent = {row.pop("_step"): row for row in healthy.runs[run.name[-8:]].history()}
    for step, values in rows:
        assert {name: sent[step][name] for name in values} == values
    said = warnings[0].partition(". Nothing is lost")[0].removeprefix("W&B: ") if warnings else "nothing"
    cells = (fault.name, f"{sum(seconds):.1f}", code, f"0 of {len(rows)}", said, f"all {len(rows)}")
    undisturbed.lines.append(f"| {' | '.join(map(str, cells))} |")


@pytest.mark.parametrize(
    ("case", "message"),
    [("refused", "Connection refused"), ("no key", "no key for http://127"), ("mode", "WANDB_MODE=offline")],
)
def test_online_falls_back_to_offline_with_one_warning(
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    case: str,
    message: str,
) -> None:
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        if case == "refused":
            server.die()
        if case == "mode":
            monkeypatch.setenv("WANDB_MODE", "offline")
        if case != "no key":
            monkeypatch.setenv("WANDB_API_KEY", KEY)
        directory = tmp_path / "unet-5b2c44cd"
        directory.mkdir()
        sink = WandbSink(mode="online", patience=60)
        with caplog.at_level(logging.WARNING):
            sink.start(RunInfo("5b2c44cd", "unet", directory))
            sink.log(1, {"loss": 0.5})
            sink.finish({})
    (warning,) = caplog.messages
    assert message in warning and "tracked offline" in warning
    assert f"`dehaze-bench publish {directory}` sends all of it later" in warning
    (path,) = directory.glob("wandb/offline-run-*/*.wandb")
    assert [row["loss"] for row in history(path)] == [0.5]


def test_silent_server_costs_the_patience_and_no_more(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However slow the machine is: the budget is one of wall time, and what W&B started is gone afterwards."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with serving(Faults(silent=True)) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        sink = WandbSink(mode="online", patience=1.5)
        began = time.monotonic()
        with caplog.at_level(logging.WARNING):
            sink.start(RunInfo("5b2c44cd", "unet", tmp_path))
            for step in range(2000):
                sink.log(step, {"loss": 0.5})
            sink.finish({"evaluation": {"n": 1}})
        assert time.monotonic() - began < 3
    (warning,) = caplog.messages
    assert "the start was not done within 1.5 s" in warning
    assert sink.problem and not sink.reached
    assert not [pid for pid in descendants(os.getpid()) if "wandb" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_a_tracker_that_reads_nothing_never_blocks(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a pipe holds is handed over while the process sleeps."""
    monkeypatch.setattr("dehaze_bench.track.wandb._PROCESS", "tests.track.sleeper")
    sink = WandbSink(mode="offline", patience=1.0)
    began = time.monotonic()
    sink.start(RunInfo("5b2c44cd", "unet", tmp_path))
    for step in range(5000):
        sink.log(step, {"loss": 0.5, "lr": 0.1})
    assert time.monotonic() - began < 2
    sink.finish({})
    assert time.monotonic() - began < 4
    assert json.dumps(sink.problem) != '""'

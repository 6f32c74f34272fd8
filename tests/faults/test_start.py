"""Two starts of one run, and clocks that jump."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults import runs
from tests.faults.conftest import Note

pytestmark = [pytest.mark.slow, pytest.mark.faults]

LINE = "*/metrics.jsonl"
DAY = 86400


@pytest.fixture(scope="session")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that gives one process another wall clock."""
    compiler = shutil.which("cc") or pytest.skip("needs a C compiler, to give one process another clock")
    made = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(made), str(source), "-ldl"], check=True)
    return made


def another(clock: Path, file: Path, seconds: int) -> dict[str, str]:
    """Return the environment of a process whose clock is ahead by `seconds`, which a change of `file` changes."""
    file.write_text(str(seconds))
    return {"LD_PRELOAD": str(clock), "CLOCK_OFFSET": str(file)}


@pytest.mark.parametrize("ahead", [0, DAY, -DAY], ids=["one clock", "a day ahead", "a day behind"])
def test_the_second_start_is_refused_and_the_first_goes_on(
    ahead: int, clock: Path, tmp_path: Path, whole: Path, note: Note
) -> None:
    given = runs.arguments(tmp_path)
    first = runs.start(given, (LINE, 4, f"wait:{tmp_path}/go"))
    deadline = time.monotonic() + 100
    while not list((tmp_path / "runs").glob("*/last.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    folder = runs.folder_of(tmp_path)
    held = json.loads((folder / "lock.json").read_text())
    assert held["pid"] == first.pid
    second = runs.run(given, fresh=True, **another(clock, tmp_path / "clock", ahead))
    listed = subprocess.run(
        [*runs.COMMAND, "ls", "runs", f"paths.runs={tmp_path}/runs"], capture_output=True, text=True
    )
    (tmp_path / "go").touch()
    done = first.end()
    assert second.code == 1 and "Traceback" not in second.said, second.said
    assert f"process {held['pid']} on {held['host']}, since {held['since']}" in second.last
    assert "running" in listed.stdout and str(first.pid) in listed.stdout
    assert done.code == 0, done.said
    assert runs.differences(whole, folder) == []
    kind = f"second start, its clock {ahead:+d} s off" if ahead else "second start of a run"
    note(kind, second.last.replace(str(tmp_path), "DIR"), 1, "nothing", second.seconds)


def test_a_lock_of_a_lost_machine_is_taken_over(tmp_path: Path, whole: Path, note: Note) -> None:
    given = runs.arguments(tmp_path)
    runs.run(given, (LINE, 10, "kill:0"))
    folder = runs.folder_of(tmp_path)
    held = json.loads((folder / "lock.json").read_text())
    (folder / "lock.json").write_text(json.dumps(held | {"host": "node7", "boot": "another"}))
    os.utime(folder / "lock.json", (time.time() - 600, time.time() - 600))
    taken = runs.finish(given)
    assert f"over from process {held['pid']} on node7" in taken.said
    assert runs.differences(whole, folder) == []
    note(
        "lock of a machine that is gone for ten minutes",
        "watched for three beats, then taken over with a line",
        0,
        "nothing",
        taken.seconds,
    )


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
def test_a_clock_that_jumps_while_training_changes_nothing(
    jump: int, clock: Path, tmp_path: Path, whole: Path, note: Note
) -> None:
    given = runs.arguments(tmp_path)
    environment = another(clock, tmp_path / "clock", 0)
    done = runs.run(given, (LINE, 10, f"run:echo {jump} > {tmp_path}/clock"), fresh=True, **environment)
    assert done.code == 0, done.said
    folder = runs.folder_of(tmp_path)
    assert runs.differences(whole, folder) == []
    started = json.loads((folder / "env.json").read_text())["started"]
    finished = json.loads((folder / "result.json").read_text())["finished"]
    assert started[:10] != finished[:10] and (started < finished) == (jump > 0), "the clock had to jump"
    said = f"done; started {started}, finished {finished} by that clock"
    note(f"clock set by {jump:+d} s while training", said, 0, "nothing", done.seconds)

"""Locks of folders: who holds one, when it is free, and that no clock decides it."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from dehaze_bench import locking
from dehaze_bench.errors import JobError

DAY = 86400.0
HOLD = """
import sys
from pathlib import Path
from dehaze_bench import locking
lock = locking.take(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
lock.release()
"""
WITHOUT_FLOCK = """
import errno, fcntl, os
def flock(*arguments):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
fcntl.flock = flock
"""


class Other:
    """Another process that holds the lock of a folder."""

    def __init__(self, folder: Path, code: str = HOLD) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, "-c", code, str(folder)], text=True, **pipes)  # type: ignore[call-overload]
        assert self.process.stdout.readline() == "held\n", self.process.stderr.read()

    def let_go(self) -> None:
        self.process.communicate()
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "BEAT", 0.1)
    monkeypatch.setattr(locking, "STALE", 1.0)
    monkeypatch.setattr(locking, "PATIENCE", 0.2)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Other]:
    holder = Other(tmp_path)
    yield holder
    holder.kill()


def record(folder: Path, **changes: Any) -> dict[str, Any]:
    """Write `lock.json` as a process on another system would have, and return it."""
    with locking.hold(folder) as lock:
        found = vars(lock.holder) | {"host": "node7", "pid": 4711, "boot": "another", "token": "feed"} | changes
    (folder / "lock.json").write_text(json.dumps(found))
    return found


def stamp(folder: Path, age: float) -> None:
    when = time.time() - age
    os.utime(folder / "lock.json", (when, when))


def test_the_second_start_is_told_host_process_and_time(tmp_path: Path, other: Other) -> None:
    held = json.loads((tmp_path / "lock.json").read_text())
    with pytest.raises(JobError) as caught:
        locking.take(tmp_path)
    text = str(caught.value)
    assert f"process {other.process.pid} on {held['host']}, since {held['since']}" in text and str(tmp_path) in text
    assert locking.describe_holder(tmp_path) in text
    other.let_go()
    assert locking.describe_holder(tmp_path) is None
    with locking.hold(tmp_path) as lock:
        lock.check()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_one_process_does_not_hold_a_lock_twice(tmp_path: Path) -> None:
    with locking.hold(tmp_path), pytest.raises(JobError, match="That is this process"):
        locking.take(tmp_path)


def test_the_lock_of_a_dead_process_is_taken_over_with_a_line(
    tmp_path: Path, other: Other, capsys: pytest.CaptureFixture[str]
) -> None:
    other.kill()
    assert locking.describe_holder(tmp_path) is None
    with locking.hold(tmp_path):
        assert f"took {tmp_path} over from process {other.process.pid} on " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_stranger_with_the_number_of_a_dead_holder_does_not_keep_its_lock(tmp_path: Path) -> None:
    with locking.hold(tmp_path) as lock:
        mine = vars(lock.holder)
    (tmp_path / "lock.json").write_text(json.dumps(mine | {"start": mine["start"] - 1, "token": "feed"}))
    with locking.hold(tmp_path) as lock:
        assert lock.holder.token != "feed"


def test_a_child_that_still_has_the_flock_does_not_keep_the_lock_of_its_dead_parent(tmp_path: Path) -> None:
    record(tmp_path, **{name: vars(_mine(tmp_path))[name] for name in ("host", "boot")}, pid=_dead_process())
    with FileLock(tmp_path / "lock"), locking.hold(tmp_path) as lock:
        with pytest.raises(JobError, match=str(os.getpid())):
            locking.take(tmp_path)
        lock.check()


def _mine(folder: Path) -> locking.Holder:
    with locking.hold(folder) as lock:
        return lock.holder


def _dead_process() -> int:
    child = multiprocessing.get_context("fork").Process(target=lambda: None)
    child.start()
    child.join()
    assert child.pid is not None
    return child.pid


def test_a_flock_without_a_name_is_respected(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock"):
        assert locking.describe_holder(tmp_path) == "a process that left no name"
        with pytest.raises(JobError, match="left no name"):
            locking.take(tmp_path)
    (tmp_path / "lock.json").write_text("{half")
    with locking.hold(tmp_path):
        pass


class TestAnotherSystem:
    @pytest.mark.parametrize("age", [0.0, DAY, -DAY], ids=["now", "a day ago", "in a day"])
    def test_a_beating_heart_is_believed_whatever_the_clock_says(self, tmp_path: Path, age: float) -> None:
        found = record(tmp_path)
        over = threading.Event()

        def beat() -> None:
            beats = 0
            while not over.wait(0.1):
                beats += 1
                stamp(tmp_path, age - beats)

        stamp(tmp_path, age)
        heart = threading.Thread(target=beat)
        heart.start()
        try:
            with pytest.raises(JobError, match=f"process 4711 on node7, since {found['since']}"):
                locking.take(tmp_path)
        finally:
            over.set()
            heart.join()

    @pytest.mark.parametrize(
        ("age", "least", "most"),
        [(0.3, 0.5, 2.0), (DAY, 0.3, 0.9), (-DAY, 1.0, 2.5)],
        ids=["lately", "a day ago", "in a day"],
    )
    def test_a_still_heart_is_given_up_whatever_the_clock_says(
        self, tmp_path: Path, age: float, least: float, most: float, capsys: pytest.CaptureFixture[str]
    ) -> None:
        record(tmp_path)
        stamp(tmp_path, age)
        started = time.monotonic()
        with locking.hold(tmp_path):
            assert least <= time.monotonic() - started < most
        said = capsys.readouterr().err
        assert "watching its heartbeat" in said and "over from process 4711 on node7" in said
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]

    def test_a_flock_that_a_lost_client_left_at_the_server_does_not_keep_it(self, tmp_path: Path) -> None:
        record(tmp_path)
        with FileLock(tmp_path / "lock"), locking.hold(tmp_path) as lock:
            lock.check()

    def test_a_listing_asks_without_waiting(self, tmp_path: Path) -> None:
        found = record(tmp_path)
        assert locking.describe_holder(tmp_path) == f"process 4711 on node7, since {found['since']}"
        stamp(tmp_path, DAY)
        assert locking.describe_holder(tmp_path) is None

    def test_another_container_on_this_kernel_is_judged_by_flock(self, tmp_path: Path) -> None:
        record(tmp_path, boot=_mine(tmp_path).boot, space="pid:[1]")
        with FileLock(tmp_path / "lock"):
            assert locking.describe_holder(tmp_path) is not None
            with pytest.raises(JobError, match="node7"):
                locking.take(tmp_path)
        assert locking.describe_holder(tmp_path) is None
        with locking.hold(tmp_path):
            pass


def test_a_holder_that_was_taken_over_learns_it_and_leaves_the_new_one_alone(tmp_path: Path) -> None:
    lock = locking.take(tmp_path)
    text = json.dumps(vars(lock.holder) | {"host": "node7", "pid": 4711, "token": "feed"})
    (tmp_path / "lock.json").write_text(text)
    with pytest.raises(JobError, match="taken over by process 4711 on node7"):
        lock.check()
    lock.release()
    assert (tmp_path / "lock.json").read_text() == text


def test_the_heart_beats_and_puts_back_a_name_that_was_deleted(tmp_path: Path) -> None:
    with locking.hold(tmp_path) as lock:
        stamp(tmp_path, DAY)
        time.sleep(0.4)
        assert abs(time.time() - (tmp_path / "lock.json").stat().st_mtime) < 5
        (tmp_path / "lock.json").unlink()
        time.sleep(0.4)
        assert json.loads((tmp_path / "lock.json").read_text()) == vars(lock.holder)


def test_without_flock_a_marker_does(tmp_path: Path) -> None:
    take = "import sys; from pathlib import Path; from dehaze_bench import locking; locking.take(Path(sys.argv[1]))"

    def start() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", f"{WITHOUT_FLOCK}\n{take}.release()", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    (tmp_path / "lock").touch()  # left by a lock through flock, on a system whose mount has it
    assert start().returncode == 0
    holder = Other(tmp_path, WITHOUT_FLOCK + HOLD)
    assert f"process {holder.process.pid} on" in start().stderr.splitlines()[-1]
    holder.kill()
    taken = start()
    assert taken.returncode == 0 and "took" in taken.stderr
    assert not [path.name for path in tmp_path.iterdir()]


def test_of_many_starts_on_a_dead_lock_one_wins(tmp_path: Path) -> None:
    holder = Other(tmp_path)
    holder.kill()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    started = [subprocess.Popen(command, text=True, **pipes) for _ in range(6)]  # type: ignore[call-overload]
    said = [process.stdout.readline() for process in started]
    assert sorted(said) == ["", "", "", "", "", "held\n"]
    errors = [process.communicate()[1] for process in started]
    winner = started[said.index("held\n")].pid
    assert sum(f"process {winner} on" in text for text in errors) == 5

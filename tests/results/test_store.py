from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from dehaze_bench.errors import UsageError
from dehaze_bench.results.store import Store
from tests.results.fabricated import MakeRun


def test_states_of_all_kinds_of_directories(
    store: Store, make_run: MakeRun, make_failure: Callable[[str, str], Path]
) -> None:
    make_run("00000001")
    make_failure("00000002", "no memory")
    for run_id, name in (("00000003", "last.pt"), ("00000004", "config.yaml"), ("00000005", "lock")):
        (store.root / f"unet-{run_id}").mkdir()
        (store.root / f"unet-{run_id}" / name).touch()
    make_run("00000006")
    (store.root / "unet-00000006" / "result.json").write_text("{")
    (store.root / "unet-00000001").joinpath("failed.json").write_text("{")  # older than the success
    (store.root / "notes").mkdir()
    (store.root / "unet-0000000a").touch()  # a file, not a run
    with FileLock(store.root / "unet-00000004" / "lock"):
        states = {run.id: run.state for run in store.runs()}
    assert states == {
        "00000001": "done",
        "00000002": "failed",
        "00000003": "interrupted",
        "00000004": "running",
        "00000005": "empty",
        "00000006": "broken",
    }
    assert store.get("00000004").state == "interrupted"  # type: ignore[union-attr]
    assert store.get("00000002").reason == "RuntimeError: no memory"  # type: ignore[union-attr]
    assert "not valid JSON" in store.get("00000006").reason  # type: ignore[union-attr]


def test_lock_of_another_process_counts_and_asking_does_not_steal_it(store: Store) -> None:
    directory = store.root / "unet-00000001"
    directory.mkdir()
    code = (
        "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire();"
        "print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(directory / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        assert [store.get("00000001").state for _ in range(2)] == ["running"] * 2  # type: ignore[union-attr]
        process.communicate()
    assert store.get("00000001").state == "empty"  # type: ignore[union-attr]
    with FileLock(directory / "lock", timeout=0):
        pass


def test_find_path_and_require(store: Store, make_run: MakeRun) -> None:
    record = make_run("5b2c44cd")
    (store.root / "unet-00000002").mkdir()
    assert store.find("5b2c44cd") == record
    assert store.path("5b2c44cd") == store.root / "unet-5b2c44cd"
    assert store.find("00000002") is None
    assert store.path("00000002") == store.root / "unet-00000002"
    assert store.find("ffffffff") is store.path("ffffffff") is None
    assert store.require("5b2c44cd").record == record
    assert store.require("runs/unet-5b2c44cd").record == record
    with pytest.raises(UsageError, match=r"no run '5b2c44ce' .* Did you mean '5b2c44cd'"):
        store.require("5b2c44ce")
    with pytest.raises(UsageError, match="no run 'last'"):
        store.require("last")
    with pytest.raises(UsageError, match="unet-00000002 is not done but empty"):
        store.require("00000002")


def test_finished_run_wins_where_two_slugs_share_an_id(store: Store, make_run: MakeRun) -> None:
    (store.root / "a-5b2c44cd").mkdir()
    make_run("5b2c44cd")
    assert store.path("5b2c44cd") == store.root / "unet-5b2c44cd"


def test_renamed_directory_is_broken(store: Store, make_run: MakeRun) -> None:
    make_run("5b2c44cd")
    (store.root / "unet-5b2c44cd").rename(store.root / "unet-00000001")
    (run,) = store.runs()
    assert (run.state, run.id) == ("broken", "00000001")
    assert "belongs to run 5b2c44cd" in run.reason


def test_missing_root_is_empty(tmp_path: Path) -> None:
    store = Store(tmp_path / "nowhere")
    assert store.runs() == []
    assert store.find("5b2c44cd") is None


def test_glob_characters_in_an_id_find_nothing(store: Store, make_run: MakeRun) -> None:
    make_run("5b2c44cd")
    assert store.get("*") is None

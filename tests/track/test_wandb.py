from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dehaze_bench.track.pictures import error_map
from dehaze_bench.track.sink import EvaluationView, Picture, RunInfo
from dehaze_bench.track.wandb import WandbSink, publish_table
from tests.track.loopback import serving
from tests.track.offline_file import history, records, staged_files

RUN_ID = "5b2c44cd"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory and no W&B settings but those of the test."""
    path = tmp_path / "home"
    path.mkdir()
    for name in list(os.environ):
        if name.startswith(("WANDB_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setenv("NETRC", str(path / "netrc"))
    monkeypatch.chdir(tmp_path)
    return path


def start(sink: WandbSink, tmp_path: Path, run_id: str = RUN_ID) -> Path:
    directory = tmp_path / f"unet-{run_id}"
    directory.mkdir()
    sink.start(RunInfo(run_id, "unet", directory, steps=30, config={"model": {"depth": 2}}))
    return directory


def wandb_file(directory: Path) -> Path:
    (path,) = directory.glob("wandb/offline-run-*/run-*.wandb")
    return path


def picture(name: str, seed: int) -> Picture:
    rng = np.random.default_rng(seed)
    hazy, restored, truth = rng.integers(0, 256, (3, 12, 16, 3), dtype=np.uint8)
    return Picture(name, hazy, restored, truth)


def test_offline_run_is_complete_inside_its_directory(tmp_path: Path, home: Path) -> None:
    environment = dict(os.environ)
    sink = WandbSink(max_images=2)
    directory = start(sink, tmp_path)
    for step in (10, 20):
        sink.log(step, {"loss": 1 / step, "lr": 1e-3})
    pictures = [picture("c.png", 0), picture("a.png", 1), picture("b.png", 2)]
    rows = [(f"{name}.png", {"psnr": 20.0 + index, "ssim": 0.5}) for index, name in enumerate("abcd")]
    sink.evaluation(EvaluationView("photos", 20, {"psnr": 21.5}, rows, pictures))
    sink.finish({"id": RUN_ID, "evaluation": {"metrics": {"psnr": {"mean": 21.5}}}, "config": {"big": 1}})
    assert dict(os.environ) == environment

    path = wandb_file(directory)
    assert path.name == f"run-{RUN_ID}.wandb"
    logged = history(path)
    assert [row["loss"] for row in logged if "loss" in row] == [0.1, 0.05]
    assert logged[-1]["photos/psnr"] == 21.5
    assert logged[-1]["_step"] == 20
    kinds = {record.WhichOneof("record_type"): record for record in records(path)}
    assert kinds["run"].run.run_id == RUN_ID
    assert kinds["exit"].exit.exit_code == 0
    config = {item.key: json.loads(item.value_json) for item in kinds["run"].run.config.update}
    assert config["model"] == {"depth": 2}

    files = staged_files(path)
    (table,) = [json.loads(file.read_text()) for name, file in files.items() if name.endswith(".table.json")]
    assert table["columns"] == ["name", "hazy", "restored", "truth", "error", "psnr", "ssim"]
    assert [row[0] for row in table["data"]] == ["c.png", "a.png", "b.png", "d.png"], "pictures first, then the rest"
    assert [row[5] for row in table["data"]] == [22.0, 20.0, 21.0, 23.0]
    assert [row[1] is None for row in table["data"]] == [False, False, True, True], "max_images is kept"
    shown = table["data"][0]
    expected = (pictures[0].hazy, pictures[0].restored, pictures[0].truth)
    for cell, pixels in zip(shown[1:4], expected, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(files[cell["path"]])), pixels)
    error = error_map(pictures[0].restored, pictures[0].truth)  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.asarray(Image.open(files[shown[4]["path"]])), error)
    assert all(file.is_relative_to(directory) for file in files.values())
    assert list(home.rglob("*")) == []


def test_test_set_without_truth_and_failed_run(tmp_path: Path, home: Path) -> None:
    sink = WandbSink()
    directory = start(sink, tmp_path)
    image = np.zeros((8, 8, 3), np.uint8)
    sink.evaluation(EvaluationView("fog", 3, {}, [("x", {})], [Picture("x", image, image)]))
    sink.finish({"error": "loss is nan"})
    path = wandb_file(directory)
    (table,) = [json.loads(f.read_text()) for name, f in staged_files(path).items() if name.endswith("json")]
    assert table["data"][0][3:] == [None, None]
    (code,) = [r.exit.exit_code for r in records(path) if r.WhichOneof("record_type") == "exit"]
    assert code == 1


def test_two_runs_of_one_process_do_not_share_folders(tmp_path: Path, home: Path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    for run_id in ("00000001", "00000002"):
        sink = WandbSink()
        directory = start(sink, tmp_path, run_id)
        sink.evaluation(EvaluationView("fog", 1, {}, [("x", {})], [Picture("x", image, image)]))
        sink.finish({})
        staged = staged_files(wandb_file(directory)).values()
        assert staged
        assert all(file.is_relative_to(directory) for file in staged)
    assert list(home.rglob("*")) == []


def test_published_table_is_read_back(tmp_path: Path, home: Path) -> None:
    columns = ["label", "scan", "psnr", "psnr_n", "runs"]
    rows = [["Mamba", "cross", 20.5, 2, "00000001 00000002"], ["paper", None, 37.84, 0, ""]]
    (path,) = publish_table("demo", columns, rows, tmp_path / "tables")
    (table,) = [json.loads(f.read_text()) for name, f in staged_files(path).items() if name.endswith("json")]
    assert table["columns"] == columns
    assert table["data"] == rows
    assert path.is_relative_to(tmp_path / "tables")
    assert list(home.rglob("*")) == []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A port on loopback that accepts connections and never answers; closing it refuses them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield listener


@pytest.mark.parametrize(
    ("case", "message"),
    [("refused", "no connection to http://127"), ("no key", "no key for http://127"), ("mode", "WANDB_MODE=offline")],
)
def test_online_falls_back_to_offline_in_time(
    tmp_path: Path,
    home: Path,
    server: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    case: str,
    message: str,
) -> None:
    if case == "refused":
        server.close()
    if case == "mode":
        monkeypatch.setenv("WANDB_MODE", "offline")
    if case != "no key":
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    began = time.monotonic()
    sink = WandbSink(mode="online")
    with caplog.at_level(logging.WARNING):
        directory = start(sink, tmp_path)
    sink.log(1, {"loss": 0.5})
    sink.finish({})
    assert time.monotonic() - began < 8, "measured 1.4 s on a calm machine"
    assert message in caplog.text
    assert "tracked offline" in caplog.text
    assert [row["loss"] for row in history(wandb_file(directory))] == [0.5]


@pytest.mark.slow
def test_silent_server_costs_no_more_than_the_timeout(
    tmp_path: Path,
    home: Path,
    server: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    sink = WandbSink(mode="online", init_timeout=3)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        directory = start(sink, tmp_path)
    sink.log(1, {"loss": 0.5})
    sink.finish({})
    assert time.monotonic() - began < 20, "measured 4.9 s on a calm machine"
    assert "tracked offline" in caplog.text
    assert [row["loss"] for row in history(wandb_file(directory))] == [0.5]


@pytest.mark.slow
def test_online_run_reaches_the_server_with_its_pictures(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
        sink = WandbSink(mode="online")
        directory = start(sink, tmp_path)
        sink.log(1, {"loss": 0.5})
        sink.evaluation(EvaluationView("photos", 2, {"psnr": 9.0}, [("a", {"psnr": 9.0})], [picture("a", 0)]))
        sink.finish({})
    assert not list(directory.glob("wandb/offline-run-*")), "the run was really online"
    streams = [body for path, body in server.uploads.items() if path.endswith(f"{RUN_ID}/file_stream")]
    assert b"loss" in b"".join(streams)
    table = json.loads(server.uploads["/upload/photos/images.table.json"])
    cells = [cell["path"] for cell in table["data"][0][1:5]]
    assert all(f"/upload/{path}" in server.uploads for path in cells)
    assert list(home.rglob("*")) == []


@pytest.mark.slow
def test_server_that_dies_costs_no_more_than_the_finish_timeout(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
        sink = WandbSink(mode="online", finish_timeout=3)
        directory = start(sink, tmp_path)
    began = time.monotonic()
    sink.log(1, {"loss": 0.5})
    sink.finish({})
    assert time.monotonic() - began < 15, "measured 3.1 s on a calm machine"
    (path,) = directory.glob("wandb/run-*/run-*.wandb")
    assert [row["loss"] for row in history(path)] == [0.5]


class _FullDisk:
    """Stands in for a W&B run whose every call fails as on a full disk."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.summary: dict[str, object] = {}

    def log(self, *_: object, **__: object) -> None:
        self.calls.append("log")
        raise OSError(28, "No space left on device")

    def finish(self, exit_code: int) -> None:
        self.calls.append("finish")
        raise OSError(28, "No space left on device")


def test_full_disk_is_one_warning_and_then_silence(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = _FullDisk()
    monkeypatch.setattr("wandb.init", lambda **_: disk)
    sink = WandbSink()
    start(sink, tmp_path)
    with caplog.at_level(logging.WARNING):
        for step in range(3):
            sink.log(step, {"loss": 0.1})
        sink.evaluation(EvaluationView("photos", 3, {"psnr": 1.0}))
    assert disk.calls == ["log"]
    assert caplog.text.count("No space left on device") == 1
    sink.finish({})
    assert disk.calls == ["log", "finish"]


def test_unwritable_run_directory_is_a_warning(tmp_path: Path, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    sink = WandbSink()
    environment = dict(os.environ)
    with caplog.at_level(logging.WARNING):
        sink.start(RunInfo(RUN_ID, "unet", tmp_path / "file"))
    sink.log(1, {"loss": 0.5})
    sink.finish({})
    assert "W&B stops (start: NotADirectoryError" in caplog.text
    assert dict(os.environ) == environment

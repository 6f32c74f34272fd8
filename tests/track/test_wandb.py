"""W&B as a sink: what lies in the offline files, what a server receives, and what no file may hold."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dehaze_bench.track.jsonl import JsonlSink
from dehaze_bench.track.pictures import error_map
from dehaze_bench.track.sink import EvaluationView, Picture, RunInfo
from dehaze_bench.track.wandb import WandbSink
from tests.track.offline_file import history, records, staged_files, summary
from tests.track.server import serving

RUN_ID = "5b2c44cd"
KEY = "planted0secret0key0planted0secret0key000"
SCAN = {
    "_target_": "dehaze_bench.scans.Scan",
    "name": "cross",
    "order": {"_target_": "dehaze_bench.scans.planar.cross", "_partial_": True},
    "merge": "sum",
}
PATIENT = 60.0  # a test machine may be slow: what is tested here is content


def start(sink: WandbSink, tmp_path: Path, run_id: str = RUN_ID, resumed: int = 0, **config: Any) -> Path:
    directory = tmp_path / f"unet-{run_id}"
    directory.mkdir(exist_ok=True)
    sink.start(RunInfo(run_id, "unet", directory, steps=30, resumed=resumed, config={"model": {"depth": 2}, **config}))
    return directory


def wandb_file(directory: Path) -> Path:
    (path,) = directory.glob("wandb/offline-run-*/run-*.wandb")
    return path


def picture(name: str, seed: int) -> Picture:
    rng = np.random.default_rng(seed)
    hazy, restored, truth = rng.integers(0, 256, (3, 12, 16, 3), dtype=np.uint8)
    return Picture(name, hazy, restored, truth)


def view(step: int = 20) -> EvaluationView:
    rows = [(f"{name}.png", {"psnr": 20.0 + index, "ssim": 0.5}) for index, name in enumerate("abcd")]
    pictures = [picture("c.png", 0), picture("a.png", 1), picture("b.png", 2)]
    return EvaluationView("photos", step, {"psnr": 21.5}, rows, pictures)


def online(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)


def test_offline_run_is_complete_inside_its_directory(tmp_path: Path, home: Path) -> None:
    environment = dict(os.environ)
    sink = WandbSink(max_images=2, patience=PATIENT)
    directory = start(sink, tmp_path, scan=SCAN)
    for step in (10, 20):
        sink.log(step, {"loss": 1 / step, "lr": float("nan")})
    sink.evaluation(view())
    (directory / "config.yaml").write_text("seed: 0\n")
    (directory / "best.safetensors").write_bytes(b"weights")
    sink.finish({"id": RUN_ID, "evaluation": {"metrics": {"psnr": {"mean": 21.5}}}, "config": {"big": 1}})
    assert sink.problem == ""
    assert dict(os.environ) == environment

    path = wandb_file(directory)
    assert path.name == f"run-{RUN_ID}.wandb"
    logged = history(path)
    assert [row["_step"] for row in logged] == [10, 20]
    assert [row["loss"] for row in logged] == [0.1, 0.05]
    assert np.isnan(logged[0]["lr"])
    assert logged[1]["photos/psnr"] == 21.5
    kinds = {record.WhichOneof("record_type"): record for record in records(path)}
    assert (kinds["run"].run.run_id, kinds["run"].run.run_group) == (RUN_ID, "unet")
    assert kinds["exit"].exit.exit_code == 0
    config = {item.key: json.loads(item.value_json) for item in kinds["run"].run.config.update}
    assert config["model"] == {"depth": 2}
    end = summary(path)
    assert end["evaluation"] == {"metrics": {"psnr": {"mean": 21.5}}}
    assert end["photos/psnr"] == 21.5
    assert end["scan_picture"]["_type"] == "image-file"
    assert "config" not in end and "id" not in end

    files = staged_files(path)
    assert files["config.yaml"].read_text() == "seed: 0\n"
    assert "best.safetensors" not in files
    (table,) = [json.loads(file.read_text()) for name, file in files.items() if name.endswith(".table.json")]
    check_table(table, {name: file.read_bytes() for name, file in files.items()})
    assert all(file.is_relative_to(directory) for file in files.values())
    assert list(home.rglob("*")) == []


def check_table(table: dict[str, Any], files: dict[str, bytes]) -> None:
    """The table of `view()` with pictures for its first two images, as the pixels say."""
    assert table["columns"] == ["name", "hazy", "restored", "truth", "error", "psnr", "ssim"]
    assert [row[0] for row in table["data"]] == ["c.png", "a.png", "b.png", "d.png"], "pictures first, then the rest"
    assert [row[5] for row in table["data"]] == [22.0, 20.0, 21.0, 23.0]
    assert [row[1] is None for row in table["data"]] == [False, False, True, True], "max_images is kept"
    first = view().pictures[0]
    assert first.truth is not None
    expected = (first.hazy, first.restored, first.truth, error_map(first.restored, first.truth))
    for cell, pixels in zip(table["data"][0][1:5], expected, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(files[cell["path"]]))), pixels)


def test_test_set_without_truth_and_failed_run(tmp_path: Path, home: Path) -> None:
    sink = WandbSink(patience=PATIENT)
    directory = start(sink, tmp_path)
    image = np.zeros((8, 8, 3), np.uint8)
    sink.evaluation(EvaluationView("fog", 3, {}, [("x", {})], [Picture("x", image, image)]))
    sink.finish({"error": f"loss is nan, api_key={KEY}", "type": "JobError", "traceback": "..."})
    path = wandb_file(directory)
    (table,) = [json.loads(f.read_text()) for name, f in staged_files(path).items() if name.endswith("table.json")]
    assert table["data"][0][3:] == [None, None]
    (code,) = [r.exit.exit_code for r in records(path) if r.WhichOneof("record_type") == "exit"]
    assert code == 1
    end = summary(path)
    assert end["error"] == "loss is nan, api_key=***"
    assert "traceback" not in end


def test_server_gets_everything_once_and_the_key_is_in_no_file(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_TOKEN", "another0planted0token")
    with serving() as server:
        online(monkeypatch, server.url)
        for _ in range(2):  # the second time nothing is new
            sink = WandbSink(mode="online", max_images=2, patience=PATIENT)
            directory = start(sink, tmp_path, scan=SCAN)
            (directory / "config.yaml").write_text("seed: 0\n")
            (directory / "result.json").write_text("{}\n")
            (directory / "best.safetensors").write_bytes(b"weights")
            for step in (10, 20):
                sink.log(step, {"loss": 1 / step})
            sink.evaluation(view())
            sink.finish({"id": RUN_ID, "evaluation": {"n": 4}})
            assert sink.problem == ""
            assert sink.url == f"{server.url}/someone/dehaze-bench/runs/{RUN_ID}"
            assert list(server.runs) == [RUN_ID]
            run = server.runs[RUN_ID]
            assert run.history() == [
                {"_step": 10, "loss": 0.1},
                {"_step": 20, "loss": 0.05, "photos/psnr": 21.5},
            ]
            assert (run.name, run.group, run.exit_code) == (f"unet-{RUN_ID}", "unet", 0)
            assert run.config["model"] == {"depth": 2}
            assert run.summary()["evaluation"] == {"n": 4}
            (scan,) = [body for name, body in run.files.items() if "scan_picture" in name]
            assert min(Image.open(io.BytesIO(scan)).size) > 50
            ((name, table),) = server.tables(RUN_ID).items()
            assert name == "photos/images.table.json"
            check_table(table, table["files"])
            (kept,) = server.artifact(f"run-{RUN_ID}")
            assert kept.files == {"config.yaml": b"seed: 0\n", "result.json": b"{}\n"}
            assert kept.metadata["weights"]["bytes"] == len(b"weights")
        assert server.keys == {KEY}, "the key reached the server, and"
    assert server.unknown == [] or {text.partition(":")[0] for text in server.unknown} <= {"ArtifactType"}
    assert not list(directory.glob("wandb/offline-run-*")), "the run was really online"
    for path in tmp_path.rglob("*"):
        if path.is_file():
            body = path.read_bytes()
            assert KEY.encode() not in body and b"another0planted0token" not in body, path
    assert KEY not in caplog.text
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_resumed_run_goes_on_where_the_server_stopped(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process missed the server from step 20 on; the second was started again after step 30."""
    with serving() as server:
        online(monkeypatch, server.url)
        local, sink = JsonlSink(), WandbSink(mode="online", patience=PATIENT)
        directory = start(sink, tmp_path)
        local.start(RunInfo(RUN_ID, "unet", directory))
        for step in (10, 20, 30, 40):
            local.log(step, {"loss": 1 / step})
            if step == 10:
                sink.log(step, {"loss": 1 / step})
        sink.finish({"error": "stopped", "type": "JobError"})
        assert [row["_step"] for row in server.runs[RUN_ID].history()] == [10]

        sink = WandbSink(mode="online", patience=PATIENT)
        local.start(RunInfo(RUN_ID, "unet", directory, resumed=30))
        start(sink, tmp_path, resumed=30)
        for step in (40, 50):
            sink.log(step, {"loss": 1 / step})
        sink.evaluation(EvaluationView("photos", 20, {"psnr": 9.0}, [("a", {"psnr": 9.0})]))  # weights of step 20
        sink.finish({"evaluation": {"n": 1}})
    run = server.runs[RUN_ID]
    assert [(row["_step"], row["loss"]) for row in run.history()] == [(s, 1 / s) for s in (10, 20, 30, 40, 50)]
    assert run.summary()["photos/psnr"] == 9.0, "a value of an earlier step is kept in the summary"
    assert "error" not in run.summary()
    assert run.exit_code == 0


def test_stopped_run_leaves_its_newest_step_to_the_process_that_goes_on(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as server:
        online(monkeypatch, server.url)
        sink = WandbSink(mode="online", patience=PATIENT)
        directory = start(sink, tmp_path)
        (directory / "metrics.jsonl").write_text('{"step": 10, "loss": 0.1}\n{"step": 20, "loss": 0.05}\n')
        sink.log(10, {"loss": 0.1})
        sink.log(20, {"loss": 0.05})
        sink.finish({"error": "asked to stop", "type": "Requeue"})
        assert [row["_step"] for row in server.runs[RUN_ID].history()] == [10]
        sink = WandbSink(mode="online", patience=PATIENT)
        start(sink, tmp_path, resumed=20)
        sink.evaluation(EvaluationView("val", 20, {"psnr": 3.0}))
        sink.finish({"evaluation": {"n": 1}})
    assert server.runs[RUN_ID].history()[1:] == [{"_step": 20, "loss": 0.05, "val/psnr": 3.0}]


def test_offline_files_of_a_resumed_run_follow_each_other(tmp_path: Path, home: Path) -> None:
    """Killed at step 40 with a state of step 20: the second file repeats nothing, and has what was held back."""
    local, sink = JsonlSink(), WandbSink(patience=PATIENT)
    directory = start(sink, tmp_path)
    local.start(RunInfo(RUN_ID, "unet", directory))
    for step in (10, 20, 30, 40):
        for each in (local, sink):
            each.log(step, {"loss": 1 / step})
    sink.finish({"error": "stopped", "type": "Requeue"})
    sink = WandbSink(patience=PATIENT)
    local.start(RunInfo(RUN_ID, "unet", directory, resumed=20))
    start(sink, tmp_path, resumed=20)
    for step in (30, 40, 50):
        sink.log(step, {"loss": 1 / step})
    sink.finish({"evaluation": {"n": 1}})
    first, second = sorted(directory.glob("wandb/offline-run-*/run-*.wandb"))
    assert [row["_step"] for row in history(first)] == [10, 20, 30]
    assert [row["_step"] for row in history(second)] == [40, 50]


@pytest.mark.slow
def test_killed_run_takes_its_tracker_along(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"""
        import time
        from pathlib import Path
        from dehaze_bench.track.sink import RunInfo
        from dehaze_bench.track.wandb import WandbSink
        sink = WandbSink(mode="online")
        sink.start(RunInfo("{RUN_ID}", "unet", Path("{tmp_path}"), 30, 0, {{}}))
        sink.log(10, {{"loss": 0.1}})
        sink.log(20, {{"loss": 0.2}})
        assert sink._opened(60)
        print(sink._sender._process.pid, flush=True)
        time.sleep(60)
    """
    with serving() as server:
        online(monkeypatch, server.url)
        command = [sys.executable, "-c", textwrap.dedent(code)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        assert process.stdout is not None
        tracker = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait()
        for _ in range(300):
            if not Path(f"/proc/{tracker}").exists():
                break
            time.sleep(0.1)
        assert not Path(f"/proc/{tracker}").exists()
    assert [row["_step"] for row in server.runs[RUN_ID].history()] == [10], "step 20 may have been half"
    assert server.runs[RUN_ID].exit_code == 1


@pytest.mark.slow
def test_offline_run_is_sent_by_wandb_sync(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = WandbSink(max_images=2, patience=PATIENT)
    directory = start(sink, tmp_path)
    (directory / "config.yaml").write_text("seed: 0\n")
    for step in (10, 20):
        sink.log(step, {"loss": 1 / step})
    sink.evaluation(view())
    sink.finish({"evaluation": {"n": 4}})
    with serving() as server:
        online(monkeypatch, server.url)
        for _ in range(2):
            command = [sys.executable, "-m", "wandb", "sync", str(wandb_file(directory).parent)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            run = server.runs[RUN_ID]
            assert [(row["_step"], row["loss"]) for row in run.history()] == [(10, 0.1), (20, 0.05)]
            assert run.summary()["evaluation"] == {"n": 4}
            ((_, table),) = server.tables(RUN_ID).items()
            check_table(table, table["files"])
            (kept,) = server.artifact(f"run-{RUN_ID}")
            assert kept.files == {"config.yaml": b"seed: 0\n"}


def test_official_reader_understands_the_offline_file(tmp_path: Path, home: Path) -> None:
    sink = WandbSink(patience=PATIENT)
    directory = start(sink, tmp_path)
    sink.log(10, {"loss": 0.125})
    sink.finish({"evaluation": {"n": 4}})
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", "--summary", str(wandb_file(directory))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0.125" in done.stdout


def test_unwritable_run_directory_is_a_warning(tmp_path: Path, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    sink = WandbSink()
    with caplog.at_level(logging.WARNING):
        sink.start(RunInfo(RUN_ID, "unet", tmp_path / "file"))
    sink.log(1, {"loss": 0.5})
    sink.finish({})
    (warning,) = caplog.messages
    assert "Not a directory" in warning and "dehaze-bench publish" in warning

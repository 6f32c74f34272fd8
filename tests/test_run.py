"""One run, end to end: its files, skipping, resuming, failing, evaluating old weights."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from dehaze_bench import run, source
from dehaze_bench.compose import compose_run
from dehaze_bench.engine import checkpoint, loop, state
from dehaze_bench.errors import JobError, Requeue, UsageError
from dehaze_bench.results.record import read_failure, read_per_image, read_record
from tests import tiny

FILES = {"config.yaml", "env.json", "metrics.jsonl", "per_image.csv", "result.json", "last.pt", "best.safetensors"}


def test_a_run_leaves_its_files_and_is_skipped_the_second_time(tmp_path: Path) -> None:
    composed = tiny.tiny(tmp_path)
    first = run.train(composed)
    assert {path.name for path in first.path.iterdir()} >= FILES
    assert first.path.name == run.name_of(composed) and not first.skipped
    record = read_record(first.path / "result.json")
    assert record.evaluation.n == 3 and record.train is not None and record.train.steps == 6
    rows = read_per_image(first.path / "per_image.csv")
    mean = sum(row.values["psnr"] for row in rows) / 3
    assert record.evaluation.metrics["psnr"].mean == pytest.approx(mean, abs=1e-12)
    assert sorted((first.path / "images" / "pairs").iterdir())
    steps = [json.loads(line)["step"] for line in (first.path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6, 6]

    stamp = (first.path / "result.json").stat().st_mtime_ns
    second = run.train(composed)
    assert second.skipped and (second.path / "result.json").stat().st_mtime_ns == stamp


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    weights = [
        load_file(run.train(tiny.tiny(tmp_path / str(i), f"seed={seed}")).path / "best.safetensors")
        for i, seed in enumerate((0, 0, 1))
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_an_interrupted_run_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run.train(tiny.tiny(tmp_path / "whole"))
    composed = tiny.tiny(tmp_path / "cut")
    save = checkpoint.save

    def save_and_stop(folder: Path, run_id: str, values: dict[str, Any], keep: checkpoint.Keep) -> None:
        save(folder, run_id, values, keep)
        if values["step"] == 4:
            raise Requeue("stopped for the test")

    monkeypatch.setattr(checkpoint, "save", save_and_stop)
    with pytest.raises(Requeue):
        run.train(composed)
    monkeypatch.undo()
    folder = tmp_path / "cut" / "runs" / run.name_of(composed)
    assert not (folder / "result.json").exists() and not (folder / "failed.json").exists()
    resumed = run.train(composed)
    left, right = load_file(whole.path / "best.safetensors"), load_file(resumed.path / "best.safetensors")
    assert all(torch.equal(left[name], right[name]) for name in left)
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6, 6]


@pytest.mark.slow
def test_sigterm_saves_and_exits_75_and_the_same_command_goes_on(tmp_path: Path) -> None:
    arguments = tiny.overrides(tmp_path, *tiny.NETWORK, "train.steps=400", "train.batch=2", "train.crop=32")
    command = [sys.executable, "-m", "dehaze_bench", "train", *arguments, "runtime.log_every=1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "runs").glob("*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "SIGTERM" in errors and "Traceback" not in errors
    assert next((tmp_path / "runs").iterdir()).joinpath("last.pt").exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "switch",
    [
        "channels_last=true",
        "checkpointing=true",
        "deterministic=true",
        pytest.param("compile=true", marks=pytest.mark.slow),
    ],
)
def test_runtime_switches_change_neither_identity_nor_weights(tmp_path: Path, switch: str) -> None:
    if switch == "compile=true" and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on the CPU: g++")
    blocks = "model.depths=[2,0,1,0,0]"
    plain = run.train(tiny.tiny(tmp_path / "plain", blocks))
    other = run.train(
        tiny.tiny(tmp_path / "other", blocks, f"runtime.{switch}", f"testset.hazy={tmp_path}/plain/pairs/hazy")
    )
    torch.use_deterministic_algorithms(False)
    assert other.record.config["model"] == plain.record.config["model"]
    left, right = (load_file(each.path / "best.safetensors") for each in (plain, other))
    for name, tensor in left.items():
        torch.testing.assert_close(right[name], tensor, rtol=0, atol=1e-5, msg=name)


def test_checkpoints_of_every_nth_step_stay(tmp_path: Path) -> None:
    outcome = run.train(tiny.tiny(tmp_path, "runtime.keep_every=2", "runtime.keep=2", "runtime.save_every=100"))
    assert sorted(path.name for path in outcome.path.glob("*.pt")) == [
        "last.pt",
        "previous.pt",
        "step-00000004.pt",
        "step-00000006.pt",
    ]


def test_skipped_steps_are_counted_in_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = loop.gradients

    def spoil(current: state.TrainState, *rest: Any) -> tuple[float, float]:
        loss, norm = take(current, *rest)
        return (float("nan") if current.step == 3 else loss), norm

    monkeypatch.setattr(loop, "gradients", spoil)
    with pytest.raises(
        JobError, match=r"loss is nan at step 3.*nonfinite-step3\.pt.*last checkpoint, of step 2, is intact"
    ):
        run.train(tiny.tiny(tmp_path))
    outcome = run.train(tiny.tiny(tmp_path, "train.nonfinite=skip"))
    assert outcome.record.train is not None and outcome.record.train.skipped == 1
    assert read_record(outcome.path / "result.json").train == outcome.record.train


def test_a_vanished_picture_is_named_with_what_is_left(tmp_path: Path) -> None:
    tiny.write_pairs(tmp_path / "train", count=4, size=(40, 40))
    training = ["dataset=pairs", f"dataset.hazy={tmp_path}/train/hazy", f"dataset.clear={tmp_path}/train/clear"]
    words = [word for word in tiny.overrides(tmp_path) if not word.startswith("dataset.canvas")]
    composed = compose_run([*words, *tiny.NETWORK, *tiny.TRAINING, *training])
    save = checkpoint.save

    def save_and_lose(*rest: Any) -> Path:
        for path in (tmp_path / "train" / "clear").glob("*.png"):
            path.unlink()
        return save(*rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", save_and_lose)
        with pytest.raises(JobError, match=r"train/clear/\d\.png.*The last checkpoint, of step \d, is intact"):
            run.train(composed)
    folder = tmp_path / "runs" / run.name_of(composed)
    assert read_failure(folder / "failed.json").exit_code == 1


def test_networks_without_weights_are_only_evaluated(tmp_path: Path) -> None:
    outcome = run.train(compose_run(tiny.overrides(tmp_path, "model=identity")))
    assert outcome.record.train is None and outcome.record.untrained
    assert outcome.record.evaluation.select == "none"
    assert not (outcome.path / "last.pt").exists()


def test_selection_on_held_out_scenes_keeps_the_best(tmp_path: Path) -> None:
    composed = tiny.tiny(tmp_path, "train.select=best@val", "train.val_images=2", "train.eval_every=2")
    outcome = run.train(composed)
    assert outcome.record.evaluation.select == "best@val"
    assert outcome.record.evaluation.step in (2, 4, 6)
    lines = [json.loads(line) for line in (outcome.path / "metrics.jsonl").read_text().splitlines()]
    seen = {line["step"]: line["val/psnr"] for line in lines if "val/psnr" in line}
    assert outcome.record.evaluation.step == max(seen, key=lambda step: seen[step])


def test_a_failure_is_recorded_and_a_retry_clears_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    composed = tiny.tiny(tmp_path)
    monkeypatch.setattr("dehaze_bench.engine.loop.gradients", lambda *a: (_ for _ in ()).throw(ValueError("boom")))
    with pytest.raises(JobError, match=r"failed with ValueError: boom.*failed\.json"):
        run.train(composed)
    folder = tmp_path / "runs" / run.name_of(composed)
    failure = read_failure(folder / "failed.json")
    assert failure.type == "ValueError" and "Traceback" in failure.traceback
    monkeypatch.undo()
    run.train(composed)
    assert not (folder / "failed.json").exists() and (folder / "result.json").exists()


def test_a_locked_run_is_named(tmp_path: Path) -> None:
    composed = tiny.tiny(tmp_path)
    folder = tmp_path / "runs" / run.name_of(composed)
    folder.mkdir(parents=True)
    with FileLock(folder / "lock"), pytest.raises(JobError, match="Another process works on"):
        run.train(composed)


def test_a_torn_checkpoint_is_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    composed = tiny.tiny(tmp_path)
    folder = tmp_path / "runs" / run.name_of(composed)
    folder.mkdir(parents=True)
    (folder / "last.pt").write_bytes(b"torn")
    with pytest.raises(JobError, match=r"last\.pt cannot be read.*Delete"):
        run.train(composed)


def test_nothing_is_written_for_a_request_that_cannot_be_right(tmp_path: Path) -> None:
    for more in (["scan=temporal_first"], ["train.crop=33"], ["testset.hazy=/nowhere"], ["runtime.device=cuda:9"]):
        with pytest.raises(UsageError):
            run.train(tiny.tiny(tmp_path, *more))
    assert not (tmp_path / "runs").exists()


def test_a_damaged_result_is_an_error_and_not_overwritten(tmp_path: Path) -> None:
    composed = tiny.tiny(tmp_path)
    folder = tmp_path / "runs" / run.name_of(composed)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{half")
    with pytest.raises(JobError, match="damaged"):
        run.train(composed)
    assert (folder / "result.json").read_text() == "{half"


class TestEval:
    def test_old_weights_under_another_protocol(self, tmp_path: Path) -> None:
        trained = run.train(tiny.tiny(tmp_path))
        places = [f"paths.runs={tmp_path}/runs", "track=off"]
        composed = source.compose_for([*places, "protocol=full_y"], trained.record.id)
        outcome = run.evaluate(composed, trained.record.id)
        assert outcome.record.verb == "eval" and outcome.record.evaluation.protocol == "full_y"
        assert outcome.record.evaluation.step == 6 and outcome.record.choices["model/mixer"] == "conv"
        assert outcome.record.cost.params == trained.record.cost.params
        assert outcome.record.evaluation.metrics["psnr"].mean != trained.record.evaluation.metrics["psnr"].mean
        assert run.evaluate(composed, trained.record.id).skipped

    def test_the_same_protocol_gives_the_same_numbers(self, tmp_path: Path) -> None:
        trained = run.train(tiny.tiny(tmp_path))
        composed = source.compose_for([f"paths.runs={tmp_path}/runs", "track=off"], trained.record.id)
        again = run.evaluate(composed, trained.record.id)
        assert again.record.evaluation.metrics == trained.record.evaluation.metrics

    def test_another_folder_of_the_same_test_set(self, tmp_path: Path) -> None:
        trained = run.train(tiny.tiny(tmp_path))
        tiny.write_pairs(tmp_path / "more", count=2)
        folders = [f"testset.{name}={tmp_path}/more/{name}" for name in ("hazy", "clear")]
        composed = source.compose_for([f"paths.runs={tmp_path}/runs", "track=off", *folders], trained.record.id)
        assert run.evaluate(composed, trained.record.id).record.evaluation.n == 2

    def test_a_file_of_ours(self, tmp_path: Path) -> None:
        trained = run.train(tiny.tiny(tmp_path))
        weights = trained.path / "best.safetensors"
        outcome = run.evaluate(tiny.tiny(tmp_path, f"weights={weights}"), None)
        assert outcome.record.kind == "ours"
        assert outcome.record.evaluation.metrics == trained.record.evaluation.metrics

    def test_what_a_run_fixes_cannot_be_changed(self, tmp_path: Path) -> None:
        trained = run.train(tiny.tiny(tmp_path))
        with pytest.raises(UsageError, match=r"'model\.width' is fixed by run="):
            source.compose_for([f"paths.runs={tmp_path}/runs", "model.width=8"], trained.record.id)

    def test_an_unknown_run_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no run 'deadbeef'"):
            source.compose_for([f"paths.runs={tmp_path}/runs"], "deadbeef")

    def test_a_trainable_network_needs_weights(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="needs weights"):
            run.evaluate(tiny.tiny(tmp_path), None)

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from dehaze_bench.errors import JobError, UsageError
from dehaze_bench.results import files
from dehaze_bench.results.record import (
    Failure,
    ImageRow,
    RunRecord,
    read_failure,
    read_per_image,
    read_record,
    write_failure,
    write_json_atomic,
    write_per_image,
    write_record,
    write_text_atomic,
)
from tests.results.fabricated import result


def test_record_survives_the_disk(tmp_path: Path) -> None:
    raw = result("5b2c44cd")
    record = RunRecord.from_dict(raw)
    path = write_record(tmp_path, record)
    assert path == tmp_path / "result.json"
    assert read_record(path) == record
    assert json.loads(path.read_text()) == raw


def test_infinite_psnr_is_strict_json_and_comes_back(tmp_path: Path) -> None:
    raw = result("5b2c44cd")
    raw["evaluation"]["metrics"]["psnr"] = {"mean": math.inf, "std": math.nan, "higher": True}
    path = write_record(tmp_path, RunRecord.from_dict(raw))
    parsed = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert parsed["evaluation"]["metrics"]["psnr"] == {"mean": "inf", "std": "nan", "higher": True}
    psnr = read_record(path).evaluation.metrics["psnr"]
    assert psnr.mean == math.inf
    assert math.isnan(psnr.std)


def test_untrained_is_told_from_old_weights() -> None:
    trained = RunRecord.from_dict(result("5b2c44cd"))
    untrained = RunRecord.from_dict(result("5b2c44cd", train=None, evaluation={"step": None}))
    old_weights = RunRecord.from_dict(result("5b2c44cd", train=None, verb="eval"))
    published = RunRecord.from_dict(result("5b2c44cd", train=None, kind="rerun", evaluation={"step": None}))
    assert [r.untrained for r in (trained, untrained, old_weights, published)] == [False, True, False, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "field 'schema' is 2, this version reads 1"),
        ({"kind": "our"}, "field 'kind' is 'our'. Did you mean 'ours'?"),
        ({"seed": True}, "field 'seed' must be a whole number, found True"),
        ({"cost": {"params": 1, "macs": 1.0, "macs_size": [256]}}, r"'macs_size' must be \[height, width\]"),
        ({"cost": {"params": 1.5, "macs": 1.0, "macs_size": None}}, "'params' must be a whole number"),
        ({"train": {"steps": 1}}, "train: field 'seconds' is missing; found steps"),
        ({"evaluation": {"n": "14"}}, "evaluation: field 'n' must be a whole number, found '14'"),
        (
            {"evaluation": {"metrics": {"psnr": {"mean": "x", "std": 0, "higher": True}}}},
            r"metrics\.psnr: field 'mean'",
        ),
        ({"evaluation": {"metrics": {"psnr": 3}}}, r"metrics\.psnr: expected an object"),
    ],
)
def test_malformed_record_names_file_and_field(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "result.json"
    write_json_atomic(path, result("5b2c44cd", **change))
    with pytest.raises(UsageError, match=message) as caught:
        read_record(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b'{"schema": 1', b"\xff\xfe", b"[]", b"null"])
def test_unreadable_record_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=str(path)):
        read_record(path)


def test_failure_survives_the_disk_with_exit_code_and_traceback(tmp_path: Path) -> None:
    try:
        raise JobError("loss is nan at step 7")
    except JobError as error:
        failure = Failure.from_exception(error, "5b2c44cd", "unet", "2026-01-01T00:00:00Z")
    path = write_failure(tmp_path, failure)
    assert read_failure(path) == failure
    assert (failure.type, failure.exit_code) == ("JobError", 1)
    assert "test_record.py" in failure.traceback
    assert Failure.from_exception(UsageError("x"), "5b2c44cd", "unet", "").exit_code == 2


def test_per_image_rows_keep_order_digits_and_awkward_names(tmp_path: Path) -> None:
    path = tmp_path / "per_image.csv"
    rows = [
        ImageRow('b, "2".png', {"psnr": 1 / 3, "ssim": 0.1}),
        ImageRow("a.png", {"psnr": math.inf, "ssim": 1.0}),
    ]
    write_per_image(path, ["psnr", "ssim"], rows)
    assert path.read_text().splitlines()[0] == "name,psnr,ssim"
    assert read_per_image(path) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "first column must be 'name'"), ("name,psnr\na,x\n", "line 2"), ("name,psnr\na,1\nb\n", "line 3")],
)
def test_malformed_per_image_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "per_image.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_per_image(path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "result.json"
    write_text_atomic(path, "old")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, call, die)
    with pytest.raises(KeyboardInterrupt):
        write_text_atomic(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_kill_between_write_and_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_text_atomic(path, "old")
    child = os.fork()
    if child == 0:
        files.os.replace = lambda *_: os._exit(9)  # type: ignore[assignment]
        write_text_atomic(path, "new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert path.read_text() == "old"
    assert len(os.listdir(tmp_path)) == 2, "the temporary file of the killed process stays beside it"


def test_files_are_readable_by_the_group_as_the_umask_allows(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_text_atomic(tmp_path / "a", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640

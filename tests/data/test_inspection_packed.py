"""Verifying packed copies: what is sound passes, and each planted fault is named; alone and beside the files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dehaze_bench import cli
from dehaze_bench.data.inspection_packed import find_copies, inspect_copy
from dehaze_bench.data.store import MANIFEST
from tests.data.test_store import draw

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small ITS with its packed copy beside it."""
    monkeypatch.setenv("DEHAZE_BENCH_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "data"
    for scene in (1, 2):
        draw(root / f"ITS_v2/gt/{scene}.png", 40, 50, scene)
        for k in (1, 2):
            draw(root / f"ITS_v2/hazy/{scene}_{k}_0.9.png", 40, 50, 10 * scene + k)
    assert cli.run(["data", "prepare", "its", "--root", str(root)]) == 0
    return root


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """The copy alone, without the files."""
    shutil.copytree(root / "ITS_v2/packed/dataset-its", tmp_path / "copies/dataset-its")
    return tmp_path / "copies/dataset-its"


def edit_manifest(copy: Path, edit: Edit) -> None:
    content = json.loads((copy / MANIFEST).read_text())
    edit(content)
    (copy / MANIFEST).write_text(json.dumps(content))


def test_a_sound_copy_passes_whether_it_is_the_root_or_in_it(
    copy: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for root in (copy, copy.parent):
        report = tmp_path / "report.json"
        assert cli.run(["data", "verify", "its", "--root", str(root), "--json", str(report)]) == 0
        text = capsys.readouterr().out
        assert "its (train), packed" in text
        assert "4 of 2 scenes" in text
        assert "raw (6)" in text
        found = json.loads(report.read_text())
        assert found["findings"] == []
        assert [note["kind"] for note in found["notes"]] == ["count"]  # 4, where 13,990 are published


def test_a_changed_byte_is_found_by_the_checksum(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = copy / "shard-00000.safetensors"
    data = bytearray(shard.read_bytes())
    data[-7] ^= 1
    shard.write_bytes(data)
    assert cli.run(["data", "verify", "its", "--root", str(copy)]) == 1
    text = capsys.readouterr().out
    assert f"damaged: its (train), packed: {shard} is damaged: its SHA-256 is not that of the manifest" in text


def lose_a_pair(content: dict[str, Any]) -> None:
    content["pairs"][1][2] = "gt/77.png"


def grow_a_picture(content: dict[str, Any]) -> None:
    content["shards"][0]["pictures"][2]["height"] = 41


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lose_a_pair, ["missing partner", "1 picture of a pair is not in the copy", "gt/77.png"]),
        (grow_a_picture, ["does not hold what the manifest says: hazy/1_1_0.9.png is [40, 50, 3]", "sizes"]),
        (lambda c: c.update(version=9), ["packed copy", "has version 9, this program reads version 1"]),
        (lambda c: c.update(complete=False), ["packed copy", "is unfinished"]),
        (lambda c: c["shards"][0].update(bytes=5), ["packed copy", "not 5"]),
    ],
)
def test_planted_faults_are_named(edit: Edit, words: list[str], copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_manifest(copy, edit)
    assert cli.run(["data", "verify", "its", "--root", str(copy)]) == 1
    text = capsys.readouterr().out
    for word in words:
        assert word in text


def test_a_copy_of_another_set_or_part_is_not_taken_for_this_one(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find_copies("its", "test", copy) == []
    assert cli.run(["data", "verify", "haze4k", "--root", str(copy)]) == 2
    assert "is a packed copy of its, not of haze4k" in capsys.readouterr().err


def test_a_copy_beside_the_files_is_verified_with_them(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(["data", "verify", "its", "--root", str(root)])
    assert "its (train), packed\n" in capsys.readouterr().out
    (copy,) = find_copies("its", "train", root / "ITS_v2/packed")
    assert inspect_copy(copy)[1] == []
    path = root / "ITS_v2/hazy/1_1_0.9.png"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
    assert cli.run(["data", "verify", "its", "--root", str(root)]) == 1
    text = capsys.readouterr().out
    assert f"packed copy: its (train), packed: the copy is not used, since {path} has changed since" in text

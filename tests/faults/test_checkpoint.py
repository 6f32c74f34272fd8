"""Damaged checkpoints: named, and the previous one is used; the outcome is that of the run that was left alone."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.faults import runs
from tests.faults.conftest import Note

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that a signal stopped half way."""
    root = tmp_path_factory.mktemp("stopped")
    ended = runs.run(runs.arguments(root), ("*/metrics.jsonl", 10, "SIGTERM"))
    assert ended.code == 75, ended.said
    return root


def cut(path: Path, rng: random.Random) -> str:
    size = path.stat().st_size
    at = rng.randrange(size)
    with path.open("r+b") as file:
        file.truncate(at)
    return f"cut at byte {at} of {size}"


def flip(path: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content))
    content[at] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"one bit of byte {at} of {len(content)} flipped"


def empty(path: Path, rng: random.Random) -> str:
    path.write_bytes(b"")
    return "empty"


DAMAGE = [(cut, seed) for seed in range(3)] + [(flip, seed) for seed in range(3)] + [(empty, 0)]


@pytest.mark.parametrize(("damage", "seed"), DAMAGE, ids=[f"{act.__name__}{seed}" for act, seed in DAMAGE])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    damage: object, seed: int, stopped: Path, tmp_path: Path, whole: Path, note: Note
) -> None:
    assert callable(damage)
    shutil.copytree(stopped / "runs", tmp_path / "runs")
    folder = runs.folder_of(tmp_path)
    step, before = runs.saved_step(folder), runs.saved_step(folder, "previous.pt")
    assert 0 < before < step
    how = damage(folder / "last.pt", random.Random(seed))
    resumed = runs.finish(runs.arguments(tmp_path))
    warned = next(line for line in resumed.said.splitlines() if "last.pt" in line)
    assert f"step {before}" in warned, resumed.said
    assert (folder / "last.pt.damaged").exists()
    (folder / "last.pt.damaged").unlink()
    assert runs.differences(whole, folder) == []
    text = warned.replace(str(tmp_path), "DIR")
    note(f"last.pt {how}", text, 0, f"{step - before} steps, done again", resumed.seconds)


def test_a_foreign_checkpoint_is_named_and_the_one_before_used(
    stopped: Path, tmp_path: Path, whole: Path, note: Note
) -> None:
    other = tmp_path / "other"
    runs.run(runs.arguments(other, "seed=1"), ("*/metrics.jsonl", 10, "SIGTERM"))
    shutil.copytree(stopped / "runs", tmp_path / "run" / "runs")
    folder = runs.folder_of(tmp_path / "run")
    lost = runs.saved_step(folder) - runs.saved_step(folder, "previous.pt")
    shutil.copy(runs.folder_of(other) / "last.pt", folder / "last.pt")
    resumed = runs.finish(runs.arguments(tmp_path / "run"))
    warned = next(line for line in resumed.said.splitlines() if "last.pt" in line)
    assert f"belongs to run {runs.folder_of(other).name[-8:]}" in warned, resumed.said
    (folder / "last.pt.damaged").unlink()
    assert runs.differences(whole, folder) == []
    text = warned.replace(str(tmp_path / "run"), "DIR")
    note("last.pt of another run", text, 0, f"{lost} steps, done again", resumed.seconds)


def test_without_a_sound_checkpoint_nothing_is_thrown_away(stopped: Path, tmp_path: Path, note: Note) -> None:
    shutil.copytree(stopped / "runs", tmp_path / "runs")
    folder = runs.folder_of(tmp_path)
    for name in ("last.pt", "previous.pt"):
        cut(folder / name, random.Random(1))
    refused = runs.run(runs.arguments(tmp_path))
    assert refused.code == 1 and "Traceback" not in refused.said, refused.said
    assert "last.pt" in refused.last and "previous.pt" in refused.last and "Delete" in refused.last
    assert (folder / "last.pt").exists() and (folder / "previous.pt").exists()
    text = refused.last.replace(str(tmp_path), "DIR")
    note("last.pt and previous.pt cut short", text, 1, "nothing is deleted unasked", refused.seconds)

"""Checkpoint files: what a crash, a damaged block, a full disk or a stranger's file may do to a run."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from dehaze_bench.engine import checkpoint, faults
from dehaze_bench.engine.checkpoint import LAST, PREVIOUS, Keep
from dehaze_bench.errors import JobError


def values(step: int, size: int = 1000) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(step)
    weights = {"a": torch.randn(size, generator=generator), "b": torch.randn(3, 4, generator=generator).bfloat16()}
    optimizer = {"state": {0: {"step": torch.tensor(float(step)), "avg": torch.rand(7, generator=generator)}}}
    return {"step": step, "best": {"value": 0.1 + 0.2}, "model": weights, "optimizer": optimizer, "ema": None}


def step_of(folder: Path) -> int | None:
    found = checkpoint.choose(folder, "abc")
    return None if found is None else found[1]


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    before = values(3)
    checkpoint.save(tmp_path, "abc", before)
    after = checkpoint.read(tmp_path / LAST, "abc")
    assert torch.equal(before["model"]["a"], after["model"]["a"]) and after["best"] == before["best"]
    assert after["model"]["b"].dtype == torch.bfloat16 and set(after["optimizer"]["state"]) == {0}
    assert [path.name for path in tmp_path.iterdir()] == [LAST]


def test_the_previous_checkpoint_stays_until_the_next(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, "abc", values(step))
    assert checkpoint.read(tmp_path / LAST, "abc")["step"] == 3
    assert checkpoint.read(tmp_path / PREVIOUS, "abc")["step"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, PREVIOUS]


def test_every_nth_is_kept_up_to_a_number(tmp_path: Path) -> None:
    for step in range(1, 10):
        checkpoint.save(tmp_path, "abc", values(step), Keep(every=2, count=3))
    assert [path.name for path in checkpoint.kept(tmp_path)] == [f"step-{step:08d}.pt" for step in (4, 6, 8)]
    assert checkpoint.read(checkpoint.kept(tmp_path)[0], "abc")["step"] == 4


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


def alter(path: Path) -> None:
    """Change one bit of a number, where torch itself would not notice."""
    content = bytearray(path.read_bytes())
    place = content.find(values(2)["model"]["a"].numpy().tobytes()[:16])
    content[place + 2] ^= 1
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def swap(path: Path) -> None:
    folder = path.parent / "other"
    folder.mkdir()
    checkpoint.save(folder, "xyz", values(9))
    (folder / LAST).replace(path)


def poison(path: Path) -> None:
    """A file that would run code when unpickled."""
    torch.save({"id": "abc", "sha256": "0", "step": 2, "run": os.getcwd}, path)


@pytest.mark.parametrize("damage", [tear, alter, empty, swap, poison])
def test_a_damaged_or_foreign_file_is_named_and_the_previous_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, "abc", values(step))
    damage(tmp_path / LAST)
    assert step_of(tmp_path) == 1
    assert len(caplog.records) == 1 and str(tmp_path / LAST) in caplog.text and PREVIOUS in caplog.text
    # The bad file must not become the previous one of the next save.
    checkpoint.save(tmp_path, "abc", values(2))
    assert step_of(tmp_path) == 2
    (tmp_path / LAST).unlink()
    assert step_of(tmp_path) == 1


def test_without_a_good_file_the_error_names_the_remedy(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "abc", values(1), Keep(every=1))
    tear(tmp_path / LAST)
    with pytest.raises(JobError, match=rf"{LAST} cannot be read.*Delete .*{LAST} to start this run from step 0"):
        checkpoint.choose(tmp_path, "abc")
    assert (tmp_path / LAST).exists()


def test_nothing_is_a_fresh_start(tmp_path: Path) -> None:
    assert checkpoint.choose(tmp_path, "abc") is None
    assert checkpoint.describe_last(tmp_path) == "No checkpoint was saved yet."


def test_a_file_that_does_not_read_back_never_replaces_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, "abc", values(1))
    write = torch.save

    def lossy(content: Any, file: Any) -> None:
        content["model"]["a"][5] += 1.0
        write(content, file)

    monkeypatch.setattr(torch, "save", lossy)
    with pytest.raises(JobError, match="did not read back"):
        checkpoint.save(tmp_path, "abc", values(2))
    monkeypatch.undo()
    assert step_of(tmp_path) == 1 and [path.name for path in tmp_path.iterdir()] == [LAST]


def test_a_limit_on_file_size_is_one_sentence_and_the_last_stays(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "abc", values(1))
    before, (soft, hard) = signal.getsignal(signal.SIGXFSZ), resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011  torch has its own kinds
            checkpoint.save(tmp_path, "abc", values(2, size=1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    told = faults.explain(caught.value, tmp_path)
    assert told is not None and "larger than allowed" in str(told)
    assert step_of(tmp_path) == 1 and [path.name for path in tmp_path.iterdir()] == [LAST]
    assert checkpoint.describe_last(tmp_path) == "The last checkpoint, of step 1, is intact."


def test_the_hash_depends_on_every_part() -> None:
    base = values(1)
    seen = {checkpoint.digest(base)}
    for change in (
        {"step": 2},
        {"best": {"value": 0.3}},
        {"ema": {}},
        {"model": {**base["model"], "a": base["model"]["a"].double()}},
        {"model": {**base["model"], "b": base["model"]["b"].reshape(4, 3)}},
        {"model": {**base["model"], "c": torch.zeros(0)}},
    ):
        seen.add(checkpoint.digest({**base, **change}))
    assert len(seen) == 7
    strided = {**base, "model": {**base["model"], "b": base["model"]["b"].t().contiguous().t()}}
    assert checkpoint.digest(strided) == checkpoint.digest(base)

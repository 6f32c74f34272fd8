"""kill -9 at random moments: a run that was killed and started again is the run that was left alone."""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.faults import runs
from tests.faults.conftest import Note

KILLS = 20


@pytest.mark.slow
@pytest.mark.faults
def test_twenty_kills_cost_at_most_the_steps_since_the_last_save(tmp_path: Path, whole: Path, note: Note) -> None:
    """Of the moments a third are any file event, a third lie inside saves, a third are times on the clock."""
    rng, began = random.Random(7), time.monotonic()
    given = runs.arguments(tmp_path)
    counted = runs.run(given, ("*/runs/*", 1, "count"))
    moments = int(counted.last.removeprefix("moments: "))
    span = _seconds_at_work(runs.folder_of(tmp_path))
    shutil.rmtree(tmp_path / "runs")

    strikes, inside, lost, finished = 0, 0, [0], 0
    while strikes < KILLS:
        ended, saving = _one_kill(given, tmp_path, rng, strikes % 3, moments, span)
        if ended.code == 0:
            assert runs.differences(whole, runs.folder_of(tmp_path)) == []
            shutil.rmtree(tmp_path / "runs")
            finished += 1
            continue
        assert ended.code == -signal.SIGKILL, ended.said
        strikes += 1
        inside += saving
        folder = runs.folder_of(tmp_path)
        assert not (folder / "result.json").exists(), "the kill came too late to count"
        lost.append(runs.lost_steps(folder))
    last = runs.finish(given, fresh=True)
    assert runs.differences(whole, runs.folder_of(tmp_path)) == []
    assert f"took {runs.folder_of(tmp_path)} over from process" in last.said
    assert max(lost) <= 4
    note(
        "kill -9 at 20 random moments",
        f"{strikes} kills while running, {inside} of them while last.pt was written, {strikes} resumes over "
        f"{finished + 1} runs; weights, optimiser, metrics and result as undisturbed, no file left over",
        -9,
        f"at most {max(lost)} steps each, which were done again",
        time.monotonic() - began,
    )


def _seconds_at_work(folder: Path) -> float:
    """Return the seconds from the first file of a run to its result."""
    return (folder / "result.json").stat().st_mtime - (folder / "config.yaml").stat().st_mtime


def _one_kill(
    given: list[str], root: Path, rng: random.Random, kind: int, moments: int, span: float
) -> tuple[runs.Ended, bool]:
    """Start or resume the run and kill it; return how it ended, and whether a checkpoint was being written."""
    if kind == 0:
        return runs.run(given, ("*/runs/*", rng.randint(1, moments // 2), f"kill:{rng.choice((0, 1, 5))}")), False
    if kind == 1:
        ended = runs.run(given, ("*last.pt*.tmp", rng.randint(1, 8), f"kill:{rng.uniform(0.2, 3):.2f}"))
        return ended, any(path.name.endswith(".tmp") for path in runs.folder_of(root).glob("*last.pt*"))
    folders = list((root / "runs").glob("*")) if (root / "runs").exists() else []
    environment = folders[0] / "env.json" if folders else None
    before = environment.stat().st_mtime_ns if environment is not None and environment.exists() else 0
    running = runs.start(given)
    deadline = time.monotonic() + 60
    while running.process.poll() is None and time.monotonic() < deadline:
        found = list((root / "runs").glob("*/env.json"))
        if found and found[0].stat().st_mtime_ns != before:
            break
        time.sleep(0.002)
    time.sleep(rng.uniform(0, span))
    if not list((root / "runs").glob("*/result.json")):
        running.process.kill()
    return running.end(), False


def test_a_kill_inside_a_save_costs_the_steps_since_the_save_before(tmp_path: Path) -> None:
    """The short form for every day: killed between the flush and the rename of the second checkpoint."""
    short = ["train.steps=8", "train.eval_every=4", "runtime.workers=0"]
    given = runs.arguments(tmp_path / "cut", *short)
    killed = runs.run(given, ("*last.pt*.tmp", 4, "kill:0"), fresh=True)
    assert killed.code == -signal.SIGKILL, killed.said
    folder = runs.folder_of(tmp_path / "cut")
    assert runs.saved_step(folder) == 4
    runs.finish(given, fresh=True)
    runs.finish(runs.arguments(tmp_path / "whole", *short), fresh=True)
    assert runs.differences(runs.folder_of(tmp_path / "whole"), folder) == []

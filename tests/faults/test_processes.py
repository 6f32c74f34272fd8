"""Runs of two processes that lose one or all of them, and go on with another number."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.faults import runs
from tests.faults.conftest import Note

pytestmark = [pytest.mark.slow, pytest.mark.faults]

LINE = "*/metrics.jsonl"  # the first process writes it


def test_two_processes_are_killed_and_one_goes_on(tmp_path: Path, whole: Path, note: Note) -> None:
    given = runs.arguments(tmp_path)
    killed = runs.run(given, (LINE, 10, "machine"), fresh=True, count=2)
    assert killed.code == -9
    folder = runs.folder_of(tmp_path)
    lost = runs.lost_steps(folder)
    assert runs.saved_step(folder) > 0
    resumed = runs.finish(given)
    one, other = (load_file(place / runs.BEST) for place in (whole, folder))
    apart = max(float((one[name] - other[name]).abs().max()) for name in one)
    assert apart < 1e-6
    happened = f"one process went on; weights {apart:.1e} from those of one undisturbed process"
    note(
        "kill -9 of 2 processes of torchrun",
        happened,
        -9,
        f"{lost} steps, done again",
        killed.seconds + resumed.seconds,
    )


def test_one_process_stops_and_two_go_on(tmp_path: Path, whole: Path, note: Note) -> None:
    given = runs.arguments(tmp_path)
    stopped = runs.run(given, (LINE, 8, "SIGTERM"))
    assert stopped.code == 75, stopped.said
    resumed = runs.finish(given, fresh=True, count=2)
    one, other = (load_file(place / runs.BEST) for place in (whole, runs.folder_of(tmp_path)))
    apart = max(float((one[name] - other[name]).abs().max()) for name in one)
    assert apart < 1e-6
    happened = f"two processes went on; weights {apart:.1e} from those of one undisturbed process"
    note("SIGTERM, then 2 processes instead of 1", happened, 75, "nothing", stopped.seconds + resumed.seconds)


def test_one_of_two_processes_is_killed(tmp_path: Path, whole: Path, note: Note) -> None:
    given = runs.arguments(tmp_path)
    failed = runs.run(given, (LINE, 10, "others"), fresh=True, count=2)
    assert failed.code not in (0, 75), failed.said
    folder = runs.folder_of(tmp_path)
    lost = runs.lost_steps(folder)
    assert runs.saved_step(folder) > 0 and not (folder / "result.json").exists()
    told = next((line for line in failed.said.splitlines() if line.startswith("dehaze-bench: ")), "torchrun ended both")
    resumed = runs.finish(given, fresh=True, count=2)
    one, other = (load_file(place / runs.BEST) for place in (whole, folder))
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-6
    note(
        "kill -9 of 1 of 2 processes",
        told.replace(str(tmp_path), "DIR"),
        failed.code,
        f"{lost} steps, done again",
        failed.seconds + resumed.seconds,
    )

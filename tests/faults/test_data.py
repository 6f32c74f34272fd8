"""Faults of the data: a worker that is killed, a data set that vanishes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests import tiny
from tests.faults import runs
from tests.faults.conftest import Note

pytestmark = [pytest.mark.slow, pytest.mark.faults]

LINE = "*/metrics.jsonl"


def test_a_killed_worker_is_named_and_costs_the_steps_since_the_save(tmp_path: Path, whole: Path, note: Note) -> None:
    given = runs.arguments(tmp_path)
    failed = runs.run(given, (LINE, 10, "worker"))
    assert failed.code == 1 and "Traceback" not in failed.said, failed.said
    assert "worker" in failed.last and "killed" in failed.last and "runtime.workers" in failed.last
    assert re.search(r"The last checkpoint, of step \d+, is intact", failed.last)
    folder = runs.folder_of(tmp_path)
    lost = runs.lost_steps(folder)
    assert (folder / "failed.json").exists() and runs.saved_step(folder) > 0
    resumed = runs.finish(given)
    assert runs.differences(whole, folder) == []
    text = failed.last.replace(str(tmp_path), "DIR")
    note(
        "data worker killed, as for want of memory",
        text,
        1,
        f"{lost} steps, done again",
        failed.seconds + resumed.seconds,
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_set_that_vanishes_is_named(workers: int, tmp_path: Path, note: Note) -> None:
    pictures = tmp_path / "pictures"
    tiny.write_pairs(pictures, count=6, size=(64, 64))
    data = ["dataset=pairs", f"dataset.hazy={pictures}/hazy", f"dataset.clear={pictures}/clear"]
    more = [*data, "~dataset.canvas", f"runtime.workers={workers}"]
    given = [
        text
        for text in runs.arguments(tmp_path, *more)
        if not text.startswith(("dataset.canvas", "dataset.scenes", "dataset.cache", "~"))
    ]
    failed = runs.run(given, (LINE, 10, f"run:mv {pictures} {pictures}.gone"))
    assert failed.code == 1 and "Traceback" not in failed.said, failed.said
    assert str(pictures) in failed.last
    folder = runs.folder_of(tmp_path)
    lost = runs.lost_steps(folder)
    assert runs.saved_step(folder) > 0
    shutil.move(f"{pictures}.gone", pictures)
    resumed = runs.finish(given)
    again = [*given, f"paths.runs={tmp_path}/whole/runs"]
    runs.finish(again)
    assert runs.differences(runs.folder_of(tmp_path / "whole"), folder) == []
    text = failed.last.replace(str(tmp_path), "DIR")
    note(
        f"data set vanishes, {workers} workers", text, 1, f"{lost} steps, done again", failed.seconds + resumed.seconds
    )

"""The wait for jobs when the queue itself fails: what a real scheduler does not do on request."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dehaze_bench import submission


class Job:
    """A job that never comes back."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id


def squeue(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "squeue"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        ("echo '7_0|RUNNING|None'; echo '7_1|PENDING|Why'", {"7_0": ("RUNNING", "None"), "7_1": ("PENDING", "Why")}),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", {}),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", None),
        ("exit 0", {}),
    ],
)  # fmt: skip
def test_what_the_queue_says(
    script: str, answer: dict[str, tuple[str, str]] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue(tmp_path, script, monkeypatch)
    assert submission._ask_slurm([Job("7_0"), Job("7_1")]) == answer


def test_no_queue_at_all_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert submission._ask_slurm([Job("7_0")]) is None

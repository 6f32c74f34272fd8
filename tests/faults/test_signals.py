"""Signals: once means save and stop, twice means stop; what follows is the run that was left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import runs
from tests.faults.conftest import Note

pytestmark = [pytest.mark.slow, pytest.mark.faults]

LINE = "*/metrics.jsonl"  # opened once per line
AMID = 8  # the line of step 21: the stop comes between two lines, where no save is due
ONCE = {
    "SIGTERM": "SIGTERM, as Slurm sends it before the time limit",
    "SIGUSR1": "SIGUSR1, as Slurm sends it on request",
    "SIGINT": "Ctrl-C once",
    "group:SIGTERM": "SIGTERM to the data workers as well",
    "group:SIGUSR1": "SIGUSR1 to the data workers as well",
    "group:SIGINT": "Ctrl-C in a terminal, which the data workers get as well",
}


@pytest.mark.parametrize("sent", ONCE)
def test_a_signal_saves_and_stops(sent: str, tmp_path: Path, whole: Path, note: Note) -> None:
    given = runs.arguments(tmp_path)
    stopped = runs.run(given, (LINE, AMID, sent))
    assert stopped.code == 75, stopped.said
    name = sent.removeprefix("group:")
    assert f"Stopped by {name} at step" in stopped.said and "Traceback" not in stopped.said
    folder = runs.folder_of(tmp_path)
    step, logged = runs.saved_step(folder), runs.logged_step(folder)
    assert f"at step {step}" in stopped.said and step >= logged and step % 4, "saved because of the signal only"
    assert not (folder / "failed.json").exists()
    resumed = runs.finish(given)
    assert runs.differences(whole, folder) == []
    note(
        ONCE[sent],
        f"saved and stopped at step {step}: {stopped.last}",
        75,
        "nothing",
        stopped.seconds + resumed.seconds,
    )


def test_ctrl_c_twice_stops_at_once(tmp_path: Path, whole: Path, note: Note) -> None:
    given = runs.arguments(tmp_path)
    stopped = runs.run(given, (LINE, AMID, "SIGINTx2"))
    assert stopped.code == 130 and stopped.last == "stopped" and "Traceback" not in stopped.said, stopped.said
    folder = runs.folder_of(tmp_path)
    lost = runs.lost_steps(folder)
    assert runs.saved_step(folder) > 0 and not (folder / "failed.json").exists()
    resumed = runs.finish(given)
    assert runs.differences(whole, folder) == []
    note("Ctrl-C twice", "stopped without a save", 130, f"{lost} steps, done again", stopped.seconds + resumed.seconds)


@pytest.mark.parametrize(
    ("where", "moment", "number"),
    [
        ("before the first step", "*/.config.yaml.*", 1),
        ("before an evaluation", LINE, 11),
        ("in the last evaluation", "*/hazy/1.png", 2),
    ],
)
def test_sigterm_between_the_steps(
    where: str, moment: str, number: int, tmp_path: Path, whole: Path, note: Note
) -> None:
    given = runs.arguments(tmp_path)
    stopped = runs.run(given, (moment, number, "SIGTERM"))
    assert stopped.code == 75 and "Traceback" not in stopped.said, stopped.said
    folder = runs.folder_of(tmp_path)
    assert not (folder / "result.json").exists() and not (folder / "failed.json").exists()
    step = runs.saved_step(folder)
    assert step == {"before the first step": 1, "before an evaluation": 30, "in the last evaluation": 60}[where]
    resumed = runs.finish(given)
    assert runs.differences(whole, folder) == []
    note(f"SIGTERM {where}", stopped.last, 75, "nothing", stopped.seconds + resumed.seconds)


def test_sigterm_while_starting_ends_at_once(tmp_path: Path, whole: Path, note: Note) -> None:
    given = runs.arguments(tmp_path)
    stopped = runs.run(given, ("*/hazy/1.png", 1, "SIGTERM"))
    assert stopped.code == -15 and not stopped.said and not (tmp_path / "runs").exists()
    resumed = runs.finish(given)
    assert runs.differences(whole, runs.folder_of(tmp_path)) == []
    note("SIGTERM before the run has a folder", "ended at once", -15, "nothing", stopped.seconds + resumed.seconds)

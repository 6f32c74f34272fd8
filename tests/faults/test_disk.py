"""A full disk, and one that may not be written."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import runs
from tests.faults.conftest import Note

pytestmark = [pytest.mark.slow, pytest.mark.faults]

FULL = {
    "a checkpoint": ("*last.pt.tmp", 6),
    "metrics.jsonl": ("*/metrics.jsonl", 9),
    "per_image.csv": ("*/.per_image.csv.*.tmp", 1),
    "result.json": ("*/.result.json.*.tmp", 1),
}


@contextlib.contextmanager
def small_disk(place: Path, megabytes: int = 4) -> Iterator[Path]:
    """Mount a file system of a few megabytes; a test without the right to is skipped, with the reason."""
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def filling(place: Path) -> str:
    """Return the command that fills a disk to the last byte."""
    return f"dd if=/dev/zero of={shlex.quote(str(place / 'filler'))} bs=4k 2>/dev/null; true"


@pytest.mark.parametrize("what", FULL)
def test_a_full_disk_is_named_and_costs_the_steps_since_the_save(
    what: str, tmp_path: Path, whole: Path, note: Note
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        given = runs.arguments(disk)
        where, number = FULL[what]
        failed = runs.run(given, (where, number, f"run:{filling(disk)}"))
        assert failed.code == 1, failed.said
        assert "no space is left" in failed.last.lower() or "No space left" in failed.last, failed.said
        assert "Traceback" not in failed.said and "paths.runs" in failed.last
        folder = runs.folder_of(disk)
        assert not (folder / "result.json").exists() and not list(folder.rglob("*.tmp"))
        lost = runs.lost_steps(folder)
        assert runs.saved_step(folder) > 0
        (disk / "filler").unlink()
        resumed = runs.finish(given)
        assert runs.differences(whole, folder) == []
    text = failed.last.replace(str(disk), "DIR")
    note(
        f"disk full when {what} is written",
        text,
        1,
        f"{lost} steps, done again",
        failed.seconds + resumed.seconds,
    )


def test_a_disk_that_is_full_for_a_while_loses_no_line_of_metrics(tmp_path: Path, whole: Path, note: Note) -> None:
    """Full between two saves only, so that the run itself never notices."""
    with small_disk(tmp_path / "disk") as disk:
        given = runs.arguments(disk, "runtime.save_every=30")
        actions = f"run:{filling(disk)},count,run:rm {shlex.quote(str(disk / 'filler'))}"
        done = runs.run(given, ("*/metrics.jsonl", 9, actions))
        assert done.code == 0, done.said
        assert runs.differences(whole, runs.folder_of(disk)) == []
    note(
        "disk full while two lines of metrics are written",
        "the run went on, lines kept until there was room",
        0,
        "nothing",
        done.seconds,
    )


def test_a_quota_of_file_size_is_named(tmp_path: Path, note: Note) -> None:
    """No root needed: no file may grow beyond 64 KiB, which a checkpoint does."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))"
    (tmp_path / "sitecustomize.py").write_text(limit)
    environment = {"PYTHONPATH": f"{tmp_path}:{runs.ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    failed = runs.run(runs.arguments(tmp_path), fresh=True, **environment)
    assert failed.code == 1 and "Traceback" not in failed.said, failed.said
    assert "larger than allowed" in failed.last
    assert not list(runs.folder_of(tmp_path).rglob("*.tmp"))
    note(
        "a checkpoint beyond the limit of file size",
        failed.last.replace(str(tmp_path), "DIR"),
        1,
        "the run: none can be saved",
        failed.seconds,
    )


def test_a_read_only_folder_is_named_before_anything_is_made(tmp_path: Path, whole: Path, note: Note) -> None:
    with small_disk(tmp_path / "disk") as disk:
        given = runs.arguments(disk)
        runs.run(given, ("*/metrics.jsonl", 10, "SIGTERM"))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        refused = runs.run(given)
        assert refused.code == 2 and "Traceback" not in refused.said, refused.said
        assert "cannot be written" in refused.last and "paths.runs=DIR" in refused.last
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        resumed = runs.finish(given)
        assert runs.differences(whole, runs.folder_of(disk)) == []
    note(
        "read-only folder at the start",
        refused.last.replace(str(disk), "DIR"),
        2,
        "nothing",
        refused.seconds + resumed.seconds,
    )


def test_a_folder_that_becomes_read_only_is_named(tmp_path: Path, whole: Path, note: Note) -> None:
    given = runs.arguments(tmp_path)
    close, reopen = _closing(tmp_path)
    folder = "$(dirname $(ls -d DIR/runs/*/config.yaml))".replace("DIR", shlex.quote(str(tmp_path)))
    try:
        failed = runs.run(given, ("*/metrics.jsonl", 10, f"run:{close} {folder}"))
        assert failed.code == 1 and "Traceback" not in failed.said, failed.said
        found = runs.folder_of(tmp_path)
        assert str(found) in failed.last
        lost = runs.lost_steps(found)
    finally:
        subprocess.run(f"{reopen} {tmp_path}/runs/*", shell=True, check=True)
    resumed = runs.finish(given)
    assert runs.differences(whole, found) == []
    note(
        "folder becomes read-only while training",
        failed.last.replace(str(tmp_path), "DIR"),
        1,
        f"{lost} steps, done again",
        failed.seconds + resumed.seconds,
    )


def _closing(place: Path) -> tuple[str, str]:
    """Return the commands that forbid and allow new files in a folder, for root too."""
    if os.geteuid():
        return "chmod 0555", "chmod 0755"
    probe = place / "probe"
    probe.mkdir()
    if subprocess.run(["chattr", "+i", str(probe)], capture_output=True).returncode:
        pytest.skip("root ignores modes, and this file system knows no immutable folders")
    subprocess.run(["chattr", "-i", str(probe)], check=True)
    probe.rmdir()
    return "chattr +i", "chattr -i"

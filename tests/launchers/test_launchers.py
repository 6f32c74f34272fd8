"""Sweeps through every launcher, Slurm on this machine among them: what fails, dies or hangs ends its own row only."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launchers import cluster, planted

LAUNCHERS = {
    "basic": [],
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit_local": ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=60"],
    "local": ["hydra/launcher=local"],
    "submitit_slurm": ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=main"],
    "slurm": [
        "hydra/launcher=slurm",
        "hydra.launcher.partition=main",
        "hydra.launcher.cpus_per_task=1",
        "hydra.launcher.array_parallelism=2",
        "hydra.launcher.timeout_min=30",
    ],
}
# No sweep here takes minutes: one that waits for ever ends here.
LIMIT_S = 1500
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    lacking = cluster.missing()
    if lacking:
        pytest.skip(f"no {', '.join(lacking)}: apt-get install slurmctld slurmd slurm-client munge")
    with cluster.running(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.fixture
def environment(launcher: str, request: pytest.FixtureRequest) -> dict[str, str]:
    if launcher == "basic":
        return {}
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra 'sweep'")
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the extra 'sweep'")
    return request.getfixturevalue("slurm") if "slurm" in launcher else {}


def bench(folder: Path, environment: dict[str, str], *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dehaze_bench", *argv]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S)


def cluster_of(environment: dict[str, str]) -> dict[str, str]:
    return {key: environment[key] for key in ("SLURM_CONF", "PATH") if key in environment}


def failures(folder: Path) -> list[dict[str, str]]:
    return [json.loads(path.read_text()) for path in sorted((folder / "runs").glob("*/failed.json"))]


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local", "slurm"])
def test_nine_results_three_failures_and_a_rerun_of_three(
    launcher: str, environment: dict[str, str], tmp_path: Path
) -> None:
    own = planted.write(tmp_path, "twelve", planted.twelve())
    own |= cluster_of(environment)
    done = bench(tmp_path, own, "sweep", "twelve.yaml", *LAUNCHERS[launcher])
    assert done.returncode == 1, done.stderr
    assert "12 runs, 0 done, 12 to do" in done.stderr and "9 done, 3 failed" in done.stderr, done.stderr
    listed = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert [line.split(":")[1].split(",")[0].strip() for line in listed] == ["crash", "lookup", "loss"]
    assert not re.search(r"^Traceback", done.stderr, flags=re.MULTILINE), done.stderr
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 9
    found = failures(tmp_path)
    assert sorted(each["type"] for each in found) == ["JobError", "KeyError", "RuntimeError"]
    assert all("Traceback (most recent call last)" in each["traceback"] for each in found)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/*.json")}

    # Only what failed runs again, and is recorded anew.
    again = bench(tmp_path, own, "sweep", "twelve.yaml", "rerun=failed", *LAUNCHERS[launcher])
    assert again.returncode == 1 and "9 done, 3 to do" in again.stderr and "\n3 failed" in again.stderr, again.stderr
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/*.json")}
    changed = {path.parent for path in after if after[path] != before.get(path)}
    assert changed == {path.parent for path in (tmp_path / "runs").glob("*/failed.json")} and len(changed) == 3


@pytest.mark.parametrize("launcher", ["basic", "joblib", "local", "slurm"])
def test_a_killed_row_and_a_hanging_one_do_not_keep_the_others(
    launcher: str, environment: dict[str, str], tmp_path: Path
) -> None:
    rows = [
        ("before", [*planted.NETWORK, "seed=1"]),
        ("killed", [*planted.NETWORK, "schedule=killed"]),
        ("hanging", [*planted.NETWORK, "schedule=hanging", "runtime.timeout=0.7"]),
        ("after", [*planted.NETWORK, "seed=2"]),
    ]
    own = planted.write(tmp_path, "lost", rows)
    own |= cluster_of(environment)
    done = bench(tmp_path, own, "sweep", "lost.yaml", *LAUNCHERS[launcher])
    assert done.returncode == 1 and "2 done, 2 failed" in done.stderr, done.stderr
    killed, hanging = sorted((each["error"] for each in failures(tmp_path)), key=lambda text: "SIGKILL" not in text)
    assert "Killed by SIGKILL" in killed and "runtime.timeout" in hanging
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 2


def test_train_m_takes_the_same_path(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the extra 'sweep'")
    own = planted.write(tmp_path, "none", [])
    base = [text for text in planted.tiny.overrides(tmp_path) if not text.startswith("runtime.isolate")]
    done = bench(tmp_path, own, "train", "-m", *base, *planted.NETWORK, "schedule=cosine,crash", *LAUNCHERS["joblib"])
    assert done.returncode == 1 and "1 done, 1 failed" in done.stderr, done.stderr
    assert "failed: schedule=crash: The run failed with RuntimeError: planted crash" in done.stderr
    assert not (tmp_path / "conf" / "runs").exists()


@pytest.mark.parametrize("launcher", ["slurm"])
def test_a_job_that_slurm_lost_ends_its_row(launcher: str, environment: dict[str, str], tmp_path: Path) -> None:
    rows = [("lost", [*planted.NETWORK, "schedule=cancelled"]), ("sound", [*planted.NETWORK, "seed=1"])]
    own = planted.write(tmp_path, "gone", rows) | cluster_of(environment)
    started = time.monotonic()
    done = bench(tmp_path, own, "sweep", "gone.yaml", *LAUNCHERS["slurm"])
    assert "1 done, 1" in done.stderr and "ended without a result" in done.stderr, done.stderr
    assert done.returncode in (1, 75)
    assert time.monotonic() - started < 300


@pytest.mark.parametrize("launcher", ["slurm"])
def test_a_job_asked_to_make_room_saves_is_queued_again_and_finishes(
    launcher: str, environment: dict[str, str], tmp_path: Path
) -> None:
    rows = [("long", [*planted.NETWORK, "schedule=slow", "train.steps=14", "runtime.save_every=1000"])]
    own = planted.write(tmp_path, "long", [*rows, ("short", [*planted.NETWORK, "seed=1"])]) | cluster_of(environment)
    command = [sys.executable, "-m", "dehaze_bench", "sweep", "long.yaml", *LAUNCHERS["slurm"]]
    sweep = subprocess.Popen(command, cwd=tmp_path, env=own, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + LIMIT_S
    while not (begun := _metrics(tmp_path, "steps: 14")) and time.monotonic() < until:
        time.sleep(0.5)
    folder = next((tmp_path / "runs" / ".submitit").glob("*/*_0"))
    job = folder.name
    subprocess.run(["scancel", "--signal=USR2", job], env=own, check=True)
    _, said = sweep.communicate(timeout=LIMIT_S)
    assert sweep.returncode == 0 and "2 done" in said, said
    log = (folder / f"{job}_0_log.err").read_text()
    assert "Stopped by SIGTERM" in log and "saved" in log, log
    steps = _metrics(tmp_path, "steps: 14")
    assert begun[-1] < 14 and steps == sorted(set(steps)) and steps[-1] == 14, (begun, steps)
    # No step was taken twice and none was left out: the second job went on from what the first had saved when asked.
    assert (tmp_path / "steps.txt").read_text().split() == [str(step) for step in range(14)]


def _metrics(folder: Path, mark: str) -> list[int]:
    """Return the steps whose loss was logged by the run whose config holds `mark`."""
    for path in (folder / "runs").glob("*/metrics.jsonl"):
        if mark in (path.parent / "config.yaml").read_text():
            return [json.loads(line)["step"] for line in path.read_text().splitlines() if "loss" in line]
    return []


@pytest.mark.parametrize("launcher", ["slurm"])
def test_a_job_that_never_finishes_in_time_is_given_up(
    launcher: str, environment: dict[str, str], tmp_path: Path
) -> None:
    rows = [("endless", [*planted.NETWORK, "schedule=slow", "train.steps=4000"])]
    own = planted.write(tmp_path, "endless", rows)
    own |= cluster_of(environment)
    limits = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=25", "hydra.launcher.max_num_timeout=0"]
    done = bench(tmp_path, own, "sweep", "endless.yaml", *LAUNCHERS["slurm"], *limits)
    assert done.returncode == 1 and "timed-out too many times" in done.stderr, done.stderr
    assert "max_num_timeout" in failures(tmp_path)[0]["error"]


@pytest.mark.parametrize("launcher", ["slurm"])
def test_a_job_that_can_never_start_is_taken_out(launcher: str, environment: dict[str, str], tmp_path: Path) -> None:
    own = planted.write(tmp_path, "one", [("sound", [*planted.NETWORK])]) | cluster_of(environment)
    done = bench(tmp_path, own, "sweep", "one.yaml", *LAUNCHERS["slurm"], "hydra.launcher.timeout_min=300")
    assert done.returncode == 1 and "can never start (PartitionTimeLimit)" in done.stderr, done.stderr
    queue = subprocess.run(["squeue", "--noheader"], env=own, capture_output=True, text=True, check=True)
    assert not queue.stdout.strip()


@pytest.mark.parametrize("launcher", ["slurm"])
def test_a_partition_that_does_not_exist_is_one_sentence(
    launcher: str, environment: dict[str, str], tmp_path: Path
) -> None:
    own = planted.write(tmp_path, "one", [("sound", [*planted.NETWORK])])
    own |= cluster_of(environment)
    done = bench(tmp_path, own, "sweep", "one.yaml", "hydra/launcher=slurm", "hydra.launcher.partition=nowhere")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "invalid partition" in done.stderr

"""Rows and launchers without a scheduler: labels, odd folders, a row's own process and the signals passed on to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dehaze_bench import cli, config, row
from dehaze_bench.compose import compose_run, expand
from dehaze_bench.errors import UsageError
from dehaze_bench.launch import check_launcher, label_rows, launch, split_launcher
from dehaze_bench.results.store import Store
from tests import tiny


@pytest.mark.parametrize(
    ("overrides", "labels"),
    [
        (["seed=1,2"], ["seed=1", "seed=2"]),
        (["train.augment=[flip,rot90]", "seed=1,2"], ["seed=1", "seed=2"]),
        (["train.augment=[flip],[flip,rot90]"], ["train.augment=[flip]", "train.augment=[flip,rot90]"]),
        (["paths.tables='a,b'", "seed=1,2"], ["seed=1", "seed=2"]),
        (["seed=range(0,2)", "scan=cross"], ["seed=0", "seed=1"]),
        (["scan=cross,raster", "seed=3"], ["scan=cross", "scan=raster"]),
        (["scan=glob(hilbert_*)"], ["scan=hilbert_3d", "scan=hilbert_zigma"]),
        (["+model.ffn=a,b"], ["+model.ffn=a", "+model.ffn=b"]),
        (["scan=cross", "seed=3"], ["scan=cross, seed=3"]),
        ([], ["defaults"]),
    ],
)
def test_labels_say_what_differs(overrides: list[str], labels: list[str]) -> None:
    assert label_rows(overrides, expand(overrides)) == labels


def test_a_multirun_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"range\(3,3\).*no run at all"):
        expand(["seed=range(3,3)"])


def test_only_hydras_own_overrides_go_to_the_launcher() -> None:
    mine, runs = split_launcher(["hydra/launcher=slurm", "+hydra.launcher.x=1", "hydration=3"])
    assert mine == ["hydra/launcher=slurm", "+hydra.launcher.x=1"] and runs == ["hydration=3"]


def test_launchers_of_ours_have_a_limit_in_time_and_number() -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra 'sweep'")
    check_launcher(["hydra/launcher=slurm", "hydra.launcher.partition=main"])
    check_launcher(["hydra/launcher=local"])
    with pytest.raises(UsageError, match="'timeout_min'"):
        check_launcher(["hydra/launcher=slurm", "hydra.launcher.timeout_mins=3"])
    for name in ("slurm", "local"):
        text = (Path(__file__).parents[1] / "conf" / "hydra" / "launcher" / f"{name}.yaml").read_text()
        assert "timeout_min: " in text and "array_parallelism: " in text


@pytest.mark.parametrize("name", ["plain", "with space", "dö日", "[x],(y)=z", "it's"])
def test_odd_folders_hold_runs(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    quoted = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    overrides = [text for text in tiny.overrides(tmp_path, "model=identity") if not text.startswith("paths.")]
    overrides += [f'paths.runs="{quoted}/runs"', f'paths.tables="{quoted}/tables"']
    (status,) = launch(["one"], [overrides])
    assert (status.state, status.message) == ("done", "")
    assert [run.state for run in Store(folder / "runs").runs()] == ["done"]
    assert launch(["one"], [overrides])[0].state == "skipped"


def test_a_linked_folder_holds_runs(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert launch(["one"], [tiny.overrides(tmp_path, "model=identity")])[0].state == "done"
    assert len(list((tmp_path / "disk").glob("*/result.json"))) == 1


def test_names_of_any_length_fit_into_a_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "é" * 120
    (tmp_path / "conf" / "model").mkdir(parents=True)
    path = tmp_path / "conf" / "model" / f"{name}.yaml"
    path.write_text("_target_: dehaze_bench.models.identity.Identity\n")
    monkeypatch.chdir(tmp_path)
    overrides = tiny.overrides(tmp_path, f"model='{name}'")
    found = row.identify_run(compose_run(overrides))
    assert len(found.name.encode()) <= 255 and found.name.endswith(found.id)
    assert launch(["one"], [overrides])[0].state == "done"
    assert Store(tmp_path / "runs").get(found.id).state == "done"
    short = compose_run(["model=identity"])
    assert config.identify(config.scientific(short.cfg), short.choices).slug == "identity-deadleaves"


def test_launching_writes_nothing_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = tiny.overrides(tmp_path / "elsewhere", "model=identity")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert launch(["one"], [overrides])[0].state == "done"
    assert list(here.iterdir()) == []


def apart(folder: Path, *more: str) -> list[str]:
    kept = [text for text in tiny.overrides(folder) if not text.startswith("runtime.isolate")]
    return [*kept, *more]


def test_a_row_in_its_own_process_says_the_same(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (status,) = launch(["one"], [apart(tmp_path, "model=identity")])
    assert (status.state, status.message, status.exit_code) == ("done", "", 0)
    assert status.run in [run.path.name for run in Store(tmp_path / "runs").runs()]
    missing = apart(tmp_path, "model=identity", "testset.hazy=nowhere")
    (status,) = launch(["one"], [missing])
    assert status.state == "failed" and "nowhere" in status.message and status.exit_code == 1
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_stopped_row_saves_and_the_rows_after_it_do_not_start(tmp_path: Path) -> None:
    long = apart(tmp_path, *tiny.NETWORK, *tiny.TRAINING, "train.steps=100000", "runtime.save_every=100000")
    command = [sys.executable, "-m", "dehaze_bench", "train", "-m", *long, "seed=0,1"]
    sweep = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    until = time.monotonic() + 240
    while not list((tmp_path / "runs").glob("*/metrics.jsonl")) and time.monotonic() < until:
        time.sleep(0.2)
    sweep.send_signal(signal.SIGTERM)
    _, said = sweep.communicate(timeout=240)
    assert sweep.returncode == 75, said
    assert "2 requeue" in said and "Not started" in said and "saved" in said
    (folder,) = (tmp_path / "runs").iterdir() if not (tmp_path / "runs" / ".submitit").exists() else ()
    assert (folder / "last.pt").exists() and not (folder / "failed.json").exists()


def test_a_lost_process_is_recorded_once_and_never_over_a_result(tmp_path: Path) -> None:
    composed = tiny.tiny(tmp_path)
    row.record_loss(composed, "Killed by SIGKILL.")
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "failed.json").read_text())["type"] == "LostProcess"
    assert Store(tmp_path / "runs").runs()[0].reason == "LostProcess: Killed by SIGKILL."
    (folder / "failed.json").unlink()
    (folder / "result.json").write_text("{}")
    row.record_loss(composed, "Killed by SIGKILL.")
    assert not (folder / "failed.json").exists()


def test_a_column_that_nothing_measures_is_refused_before_any_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = json.dumps(tiny.overrides(tmp_path))
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"name: mine\nbase: {base}\ncolumns: [psnrr]\nrows:\n  - {{label: a, overrides: [model=identity]}}\n"
    )
    assert cli.run(["sweep", str(path)]) == 2
    assert "no run measures column 'psnrr'. Did you mean 'psnr'?" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()

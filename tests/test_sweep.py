"""Experiments: plan, launch, failing rows, tables and their files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dehaze_bench import cli, sweep
from dehaze_bench.errors import UsageError
from dehaze_bench.launch import launch, split_launcher
from dehaze_bench.models.restorers.aodnet import AODNet
from tests import tiny

EXPERIMENT = """\
name: small
title: A small experiment
note: three rows
base: [{base}]
seeds: [0]
rows:
  - {{label: hazy input, overrides: [model=identity]}}
  - {{label: conv, overrides: [{row}], seeds: [0, 1]}}
  - {{label: crash, overrides: [{row}, optimizer.lr={lr}]}}
columns: [params, psnr, ssim]
sort: psnr
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    row = ", ".join(f'"{text}"' for text in (*tiny.NETWORK, *tiny.TRAINING))
    base = ", ".join(f'"{text}"' for text in tiny.overrides(tmp_path))
    path = tmp_path / "small.yaml"
    # A learning rate this large makes the weights, and so the next loss, non-finite.
    path.write_text(EXPERIMENT.format(base=base, row=row + ', "train.clip=null"', lr="1e30"))
    return path


def test_a_failing_row_does_not_stop_the_sweep_and_is_listed_last(
    experiment: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.run(["sweep", str(experiment)]) == 1
    shown = capsys.readouterr()
    assert "3 done, 1 failed" in shown.err
    last = [line for line in shown.err.splitlines() if line.startswith("failed:")]
    assert len(last) == 1 and "crash, seed 0" in last[0] and "loss is" in last[0]
    assert "Traceback" not in shown.err
    assert (tmp_path / "tables" / "small" / "table.md").read_text().count("conv") >= 1

    # The second call runs nothing: what is done is skipped, what failed is named again.
    assert cli.run(["sweep", str(experiment)]) == 1
    shown = capsys.readouterr()
    assert "3 done, 0 to do" in shown.err and "rerun=failed tries again" in shown.err

    assert cli.run(["sweep", str(experiment), "rerun=failed"]) == 1
    assert "1 failed" in capsys.readouterr().err


def test_a_budget_that_no_width_meets_is_named_before_the_first_run(
    experiment: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    experiment.write_text(experiment.read_text().replace("optimizer.lr=1e30", "model.match.params=1"))
    assert cli.run(["sweep", str(experiment)]) == 2
    assert "Row 'crash, seed 0': model.match.params=1 cannot be met" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_data_that_no_row_finds_are_named_before_the_first_run(
    experiment: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nowhere = f"testset.hazy={tmp_path}/nowhere"
    assert cli.run(["sweep", str(experiment), nowhere]) == 2
    assert f"{tmp_path}/nowhere" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    # Where some rows find theirs, the others fail one by one.
    experiment.write_text(experiment.read_text().replace("optimizer.lr=1e30", f'"{nowhere}"'))
    assert cli.run(["sweep", str(experiment)]) == 1
    said = capsys.readouterr().err
    assert "3 done, 1 failed" in said and "failed: crash, seed 0" in said


def test_a_dry_run_writes_nothing(experiment: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert cli.run(["sweep", str(experiment), "--dry-run"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert sorted(tmp_path.rglob("*")) == before


def test_the_table_averages_seeds_and_knows_its_runs(experiment: Path, tmp_path: Path) -> None:
    cli.run(["sweep", str(experiment)])
    table = sweep.table_of(sweep.plan(str(experiment)))
    rows = {row.label: row for row in table.rows}
    psnr = next(cell for cell in rows["conv"].cells if cell.column == "psnr")
    assert psnr.n == 2 and len(psnr.runs) == 2 and psnr.std is not None
    assert rows["hazy input"].untrained and "failed" in rows["crash"].remark


@pytest.mark.parametrize("form", ["md", "csv", "tex", "html"])
def test_table_prints_every_format(experiment: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["table", str(experiment), "--format", form]) == 0
    assert "conv" in capsys.readouterr().out


def test_a_wrong_row_fails_before_any_run(experiment: Path, tmp_path: Path) -> None:
    experiment.write_text(experiment.read_text().replace("model=identity", "model=identiti"))
    with pytest.raises(UsageError, match=r"row 'hazy input': Unknown model 'identiti'.*identity"):
        sweep.plan(str(experiment))
    assert not (tmp_path / "runs").exists()


def test_train_m_makes_one_run_per_combination(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = tiny.overrides(tmp_path, *tiny.NETWORK, *tiny.TRAINING, "scan=raster,random", "seed=0,1")
    arguments.remove("scan=raster")
    assert cli.run(["train", "-m", *arguments]) == 0
    assert "4 done" in capsys.readouterr().err
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 4
    assert not list((tmp_path / "runs").rglob("multirun.yaml")) and not (tmp_path / "runs" / ".hydra").exists()


def test_an_unknown_launcher_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'nope'.*basic.*slurm"):
        launch(["one"], [tiny.overrides(tmp_path, "model=identity")], ["hydra/launcher=nope"])


def test_launcher_overrides_are_told_apart() -> None:
    mine, runs = split_launcher(["hydra/launcher=joblib", "scan=cross", "+hydra.launcher.n_jobs=2"])
    assert mine == ["hydra/launcher=joblib", "+hydra.launcher.n_jobs=2"] and runs == ["scan=cross"]


def test_published_weights_are_rows_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {name.replace("conv", "e_conv"): tensor for name, tensor in AODNet().state_dict().items()}
    torch.save(state, tmp_path / "published.pth")
    base = ", ".join(f'"{text}"' for text in (*tiny.overrides(tmp_path), f"paths.weights={tmp_path}"))
    path = tmp_path / "published.yaml"
    path.write_text(
        f"name: published\nbase: [{base}]\ncolumns: [params, psnr]\nrows:\n"
        '  - {label: here, overrides: [model=aodnet, "weights=${paths.weights}/published.pth"]}\n'
        '  - {label: away, overrides: [model=aodnet, "weights=${paths.weights}/away.pth"]}\n'
    )
    assert [planned.state for planned in sweep.plan(str(path)).runs] == ["empty", "absent"]
    with pytest.raises(UsageError, match=r"'away, seed 0': weights=.*away\.pth is not there.*paths\.weights=DIR"):
        sweep.check(str(path))
    assert cli.run(["sweep", str(path)]) == 1
    assert "away.pth is not there" in capsys.readouterr().err
    rows = {row.label: row for row in sweep.table_of(sweep.plan(str(path))).rows}
    assert (rows["here"].kind, rows["here"].cells[0].value) == ("rerun", 1761)
    assert rows["away"].cells[1].value is None
    assert cli.run(["eval", *tiny.overrides(tmp_path), "model=aodnet", f"weights={tmp_path}/published.pth"]) == 0
    assert "skipped" in capsys.readouterr().out.lower() or len(list((tmp_path / "runs").iterdir())) == 1


def test_a_row_can_measure_the_weights_of_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ", ".join(f'"{text}"' for text in tiny.overrides(tmp_path))
    row = ", ".join(f'"{text}"' for text in (*tiny.NETWORK, *tiny.TRAINING))
    path = tmp_path / "shift.yaml"
    path.write_text(
        f"name: shift\nbase: [{base}]\ncolumns: [params, psnr]\nseeds: [0, 1]\nrows:\n"
        f"  - {{label: trained, overrides: [{row}]}}\n"
        "  - {label: on luminance, of: trained, overrides: [protocol=full_y]}\n"
    )
    assert [planned.state for planned in sweep.plan(str(path)).runs] == ["empty", "empty", "waiting", "waiting"]
    assert "4 runs, all sound" in sweep.check(str(path))
    assert cli.run(["sweep", str(path)]) == 0
    assert "4 done" in capsys.readouterr().err
    trained, other = sweep.table_of(sweep.plan(str(path))).rows
    assert trained.group and other.group and other.group.protocol == "full_y"
    assert (other.kind, other.done, other.group.select) == ("ours", 2, trained.group.select)
    assert len(list((tmp_path / "runs").glob("*/last.pt"))) == 2  # nothing is trained anew
    assert cli.run(["sweep", str(path)]) == 0
    assert "4 done, 0 to do" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "message"),
    [("of: away", "Choices: trained"), ("of: trained, seeds: [7]", r"asks for \[7\], but 'trained' has \[0\]")],
)
def test_a_row_of_nothing_is_named(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "shift.yaml"
    path.write_text(
        "name: shift\ncolumns: [psnr]\nrows:\n  - {label: trained, overrides: []}\n"
        f"  - {{label: on luminance, overrides: [], {row}}}\n"
    )
    with pytest.raises(UsageError, match=message):
        sweep.plan(str(path))

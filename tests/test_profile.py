"""`dehaze-bench profile`: cost over resolution, in files, with failing sizes as rows."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from dehaze_bench import cli, profile
from dehaze_bench.profiling.growth import fit
from dehaze_bench.registry import experiment_dirs
from dehaze_bench.results.experiment import find_experiment


def test_a_power_law_is_found() -> None:
    growth = fit([64, 128, 256], [(side**2) ** 1.5 for side in (64, 128, 256)])
    assert growth is not None
    assert growth.exponent == pytest.approx(1.5)
    assert fit([64], [1.0]) is None


def test_files_and_a_row_for_what_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["profile", "model=deit_ti", "model.backbone.depth=1", "size=32,48,50", "repeats=3"]
    assert cli.run([*arguments, f"out={tmp_path}"]) == 1
    rows = list(csv.DictReader((tmp_path / "profile.csv").open()))
    assert [row["size"] for row in rows] == ["32", "48", "50"]
    assert [bool(row["error"]) for row in rows] == [False, False, True]
    assert "50x50" in rows[2]["error"]
    assert float(rows[0]["latency"]) > 0
    data = json.loads((tmp_path / "profile.json").read_text())
    assert data
    assert (tmp_path / "profile.png").stat().st_size > 5000
    printed = capsys.readouterr().out
    assert "latency grows as pixels^" in printed


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["profile"], "needs networks"),
        (["profile", "model=vim_tt", "size=64"], "'vim_t'"),
        (["profile", "model=deit_ti", "size=abc"], "size=abc"),
        (["profile", "model=deit_ti", "size=64", "rule=vmanba"], "'vmamba'"),
        (["profile", "nothing_of_the_kind"], "nothing_of_the_kind"),
    ],
)
def test_bad_requests_are_named(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(argv) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["vim_cost_curve", "backbones_imagenet"])
def test_the_experiments_of_this_kind_are_sound(name: str) -> None:
    assert "all sound" in profile.check(find_experiment(name, experiment_dirs()))


@pytest.mark.parametrize("name", ["backbones_demo", "backbones_dehazing"])
def test_the_experiments_over_backbones_can_be_planned(name: str, tmp_path: Path) -> None:
    assert cli.run(["sweep", name, "--dry-run", f"paths.runs={tmp_path}"]) == 0

"""The verb `table`: sorting, choosing, comparing, plotting, and its errors; and that it is quick."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import pytest

from dehaze_bench import cli, sweep
from tests import tiny
from tests.results.fabricated import fabricate_many

EXPERIMENT = """\
name: made
title: Made-up runs
base: [{base}]
seeds: [0, 1]
rows:
  - {{label: "mamba, raster", overrides: [model/mixer=mamba, scan=raster]}}
  - {{label: "mamba, cross", overrides: [model/mixer=mamba, scan=cross]}}
  - {{label: "wkv, cross", overrides: [model/mixer=wkv, scan=cross]}}
columns: [params, macs, psnr, ssim]
sort: psnr
baseline: "mamba, raster"
"""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tabling")
    base = ", ".join(f'"{text}"' for text in tiny.overrides(folder) if not text.startswith("scan="))
    path = folder / "made.yaml"
    path.write_text(EXPERIMENT.format(base=base))
    names = [run.name for run in sweep.plan(str(path)).runs]
    fabricate_many(folder / "runs", runs=6, images=20, seeds=2, names=names, pictures=0)
    return path


def table(experiment: Path, *options: str) -> int:
    return cli.run(["table", str(experiment), *options])


def test_rows_are_chosen_sorted_and_compared(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.json"
    assert table(experiment, "--where", "label=*cross", "--sort=-psnr", "--out", str(out)) == 0
    made = json.loads(out.read_text())
    assert sorted(row["label"] for row in made["rows"]) == ["mamba, cross", "wkv, cross"]
    psnr = [next(c["value"] for c in row["cells"] if c["column"] == "psnr") for row in made["rows"]]
    assert psnr == sorted(psnr)
    assert all(row["comparison"]["baseline"] == "mamba, raster" for row in made["rows"])
    assert table(experiment, "--baseline", "wkv, cross", "--compare=ssim", "--format=csv") == 0
    lines = list(csv.DictReader(capsys.readouterr().out.splitlines()[1:]))
    found = {line["label"]: line for line in lines if line["column"] == "ssim"}
    assert found["mamba, raster"]["baseline"] == "wkv, cross" and found["wkv, cross"]["difference"] == ""


def test_the_terminal_shows_the_verdict(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table(experiment) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "vs. mamba, raster" in shown and "(baseline)" in shown and "Holm's correction over 2 rows" in shown


def test_plots(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(tmp_path / "deep" / name) for name in ("cost.svg", "ranks.png")]
    assert table(experiment, "--plot", files[0], "--cost", "params", "--ranks", files[1], "--format", "md") == 0
    assert all(Path(file).stat().st_size > 2000 for file in files)
    assert capsys.readouterr().out.startswith("### Made-up runs"), "where pictures are is said on stderr"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sort", "psnrr"], "--sort: no column 'psnrr'. Did you mean 'psnr'?"),
        (["--where", "mixr=mamba"], "--where: no column 'mixr'. Did you mean 'mixer'?"),
        (["--where", "mixer"], "--where mixer: write COLUMN=VALUE"),
        (["--where"], "--where needs a value"),
        (["--baseline", "mamba, crss"], "no row 'mamba, crss' to compare with. Did you mean 'mamba, cross'?"),
        (["--compare", "psnrr"], "Did you mean 'psnr'?"),
        (["--plot", "x.jpg"], "x.jpg: a picture must end with .svg, .png or .pdf"),
        (["--plot", "x.svg", "--cost", "latency"], "made has no cost column 'latency' to plot against"),
        (["--cost", "macs"], "--cost macs says what a plot is drawn against: add --plot FILE.svg"),
        (["--format", "jsn"], "Unknown format 'jsn'. Did you mean 'json'?"),
        (["--formt=json"], "Unknown option '--formt=json' of table. Did you mean '--format'?"),
        (["--where", "label=*cross", "--ranks", "x.svg"], "--ranks needs three rows or more"),
    ],
)
def test_errors_name_the_nearest(
    experiment: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert table(experiment, *[str(tmp_path / o) if o in ("x.svg",) else o for o in options]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and "Traceback" not in shown.err
    assert not (tmp_path / "x.svg").exists()


def test_sweep_writes_every_format_and_the_plots_beside_it(experiment: Path, tmp_path: Path) -> None:
    paths = sweep.write_table(sweep.table_of(sweep.plan(str(experiment))), tmp_path)
    assert [path.name for path in paths] == [
        *("table.md", "table.csv", "table.tex", "table.html", "table.json"),
        *("quality_params.svg", "quality_macs.svg", "ranks.svg"),
    ]
    assert all(path.is_file() for path in paths)


def test_two_hundred_runs_of_five_hundred_images(tmp_path: Path) -> None:
    """Generous limits of time spent computing, since machines of tests are slow and shared."""
    rows = "\n".join(f"  - {{label: row {i}, overrides: [optimizer.lr={i + 1}e-5]}}" for i in range(8))
    base = ", ".join(f'"{text}"' for text in tiny.overrides(tmp_path))
    path = tmp_path / "many.yaml"
    seeds = list(range(25))
    path.write_text(f"name: many\nbase: [{base}]\nseeds: {seeds}\nrows:\n{rows}\ncolumns: [params, macs, psnr]\n")
    (tmp_path / "runs").mkdir()
    names = [run.name for run in sweep.plan(str(path)).runs]
    fabricate_many(tmp_path / "runs", seeds=25, names=names, pictures=0)
    start = time.process_time()
    made = sweep.table_of(sweep.plan(str(path)))
    assert time.process_time() - start < 5
    assert [row.done for row in made.rows] == [25] * 8
    start = time.process_time()
    view = sweep.View(baseline="row 0")
    compared = sweep.table_of(sweep.plan(str(path)), view)
    assert time.process_time() - start < 15
    assert compared.ranks is not None and compared.ranks.num_blocks == 500

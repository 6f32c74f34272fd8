from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dehaze_bench import cli, sweep
from tests.results.fabricated import fabricate_many
from tests.results.report.conftest import data_of
from tests.results.report.test_site import Page


def report(*argv: str | Path) -> int:
    return cli.run(["report", *map(str, argv)])


def test_the_verb_writes_a_report_and_says_what_came_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fabricate_many(tmp_path / "runs", runs=3, images=4, seeds=1)
    assert report(tmp_path / "runs", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert said.startswith(str(tmp_path / "out" / "index.html")) and "3 done" in said
    assert (tmp_path / "out" / "index.html").is_file()


def test_no_runs_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").mkdir()
    assert report(tmp_path / "runs") == 2
    assert f"no runs under {tmp_path / 'runs'}" in capsys.readouterr().err
    assert report(tmp_path / "elsewhere") == 2
    assert "is no folder of runs" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_unknown_options_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(tmp_path, "--output", "x") == 2
    assert "--out" in capsys.readouterr().err


def test_an_experiment_comes_first_with_its_own_labels(tmp_path: Path) -> None:
    path = tmp_path / "pair.yaml"
    path.write_text(
        "name: pair\ntitle: Two scans & their <labels>\nbase: [dataset=deadleaves]\nseeds: [0, 1]\n"
        "rows:\n"
        "  - {label: 'Mamba, <rows>', overrides: [model/mixer=mamba, scan=raster]}\n"
        "  - {label: 'Mamba, curve', overrides: [model/mixer=mamba, scan=hilbert]}\n"
        "columns: [params, macs, psnr]\nbaseline: 'Mamba, <rows>'\n"
    )
    root = tmp_path / "it's runs"
    names = [planned.name for planned in sweep.plan(str(path), ["paths.runs=nowhere"]).runs]
    fabricate_many(root, runs=4, images=5, seeds=2, names=names)
    assert report(root, path, "--out", tmp_path / "out") == 0
    page = Page(tmp_path / "out" / "index.html")
    assert "Two scans & their <labels>" in page.text
    assert not (tmp_path / "out" / "data" / "table-2.js").exists(), "the experiment has all of these runs already"
    rows = data_of(tmp_path / "out", "table-1")["rows"]
    assert {row["label"] for row in rows} == {"Mamba, <rows>", "Mamba, curve"}  # type: ignore[attr-defined]
    assert "against Mamba, <rows>" in page.text and "baseline" in page.text


def test_runs_beyond_the_experiment_are_shown_after_it(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text("name: one\ntitle: One\nrows: [{label: only, overrides: []}]\ncolumns: [psnr]\n")
    names = [planned.name for planned in sweep.plan(str(path), ["paths.runs=nowhere"]).runs]
    fabricate_many(tmp_path / "runs", runs=2, images=4, seeds=1, names=[*names, "other-0000000a"])
    assert report(tmp_path / "runs", path, "--out", tmp_path / "out") == 0
    headings = [attrs.get("id") for tag, attrs in Page(tmp_path / "out" / "index.html").tags if tag == "h2"]
    assert headings[:2] == ["table-1-title", "table-2-title"]
    assert len(data_of(tmp_path / "out", "table-2")["rows"]) == 2  # type: ignore[arg-type]


def test_scans_of_the_runs_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="scan pictures need matplotlib (extra: plots)")
    fabricate_many(tmp_path / "runs", runs=1, images=2)
    set_scan(tmp_path, {"_target_": "dehaze_bench.scans.planar.raster", "_partial_": True})
    assert report(tmp_path / "runs", "--out", tmp_path / "out") == 0
    page = Page(tmp_path / "out" / "index.html")
    (link,) = {link for link in page.links() if link.startswith("scans/")}
    assert (tmp_path / "out" / link).read_bytes().startswith(b"\x89PNG")
    assert "1 visit per token" in page.text


def test_a_run_does_not_choose_what_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stranger.py").write_text("import pathlib; pathlib.Path('was_here').touch()\ndef order(grid): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    fabricate_many(tmp_path / "runs", runs=1, images=2)
    set_scan(tmp_path, {"_target_": "stranger.order", "_partial_": True})
    assert report(tmp_path / "runs", "--out", tmp_path / "out") == 0
    assert not (tmp_path / "was_here").exists()
    assert "Not drawn: stranger.order" in Page(tmp_path / "out" / "index.html").text


def set_scan(folder: Path, order: object) -> None:
    (path,) = folder.glob("runs/*/result.json")
    raw = json.loads(path.read_text())
    raw["config"]["scan"] = {"_target_": "dehaze_bench.scans.Scan", "order": order, "merge": "sum"}
    path.write_text(json.dumps(raw))


def test_pages_are_written_without_torch() -> None:
    code = (
        "import sys, pkgutil, importlib, dehaze_bench.results.report as r\n"
        "for m in pkgutil.iter_modules(r.__path__): importlib.import_module(f'{r.__name__}.{m.name}')\n"
        "print(sorted({'torch', 'hydra', 'omegaconf', 'wandb', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

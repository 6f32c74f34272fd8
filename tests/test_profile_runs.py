"""Measured costs of runs: kept beside them, found by tables, and no part of their identity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dehaze_bench import cli, sweep
from dehaze_bench.errors import UsageError
from dehaze_bench.results.measured_costs import read_cost, write_cost
from dehaze_bench.results.record import Cost, RunRecord
from tests import tiny
from tests.results.fabricated import result

EXPERIMENT = """\
name: costly
base: [{base}]
rows:
  - {{label: hazy input, overrides: [model=identity]}}
  - {{label: conv, overrides: [{row}], seeds: [0]}}
columns: [params, macs, macs_paper, latency, memory, psnr]
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    base = ", ".join(f'"{text}"' for text in tiny.overrides(tmp_path))
    row = ", ".join(f'"{text}"' for text in (*tiny.NETWORK, *tiny.TRAINING))
    path = tmp_path / "costly.yaml"
    path.write_text(EXPERIMENT.format(base=base, row=row))
    return path


def cells(experiment: Path) -> dict[tuple[str, str], float | None]:
    table = sweep.table_of(sweep.plan(str(experiment)))
    return {(row.label, cell.column): cell.value for row in table.rows for cell in row.cells}


def test_profile_measures_rows_and_tables_find_it(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["profile", str(experiment), "device=cpu"]) == 2
    assert "has no finished run to measure" in capsys.readouterr().err
    assert cli.run(["sweep", str(experiment)]) == 0
    before = cells(experiment)
    assert before["conv", "macs_paper"] is not None, "counted when the run was made"
    assert before["conv", "latency"] is None and before["hazy input", "memory"] is None
    assert cli.run(["profile", str(experiment), "size=64", "repeats=3", "device=cpu"]) == 0
    said = capsys.readouterr().out
    assert "conv: " in said and "hazy input: does nothing" in said
    after = cells(experiment)
    assert after["conv", "latency"] is not None and after["conv", "latency"] > 0
    assert after["hazy input", "latency"] is None, "the input itself costs nothing and has no place in a plot of costs"
    assert {run.state for run in sweep.plan(str(experiment)).runs} == {"done"}
    table = sweep.table_of(sweep.plan(str(experiment)))
    assert any("Latency and memory: one forward pass over 1 x 64 x 64, median of 3" in line for line in table.footer)
    kept = json.loads(next((tmp_path / "runs").rglob("cost.json")).read_text())
    assert set(kept) == {"macs_paper", "macs_rule", "latency", "memory", "conditions"}


@pytest.mark.parametrize(("option", "message"), [("rule=vim", "rule= has no meaning"), ("size=64,128", "whole number")])
def test_options_without_a_meaning_are_refused(
    experiment: Path, option: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["profile", str(experiment), option]) == 2
    assert message in capsys.readouterr().err


def test_measured_costs_fill_up_a_record(tmp_path: Path) -> None:
    counted = RunRecord.from_dict(result("5b2c44cd")).cost
    assert read_cost(tmp_path, counted) is counted
    write_cost(tmp_path, Cost(params=1, latency=0.25, memory=None, conditions="here"))
    found = read_cost(tmp_path, counted)
    assert (found.params, found.macs_paper, found.latency, found.memory) == (78200, 1.31e9, 0.25, None)
    (tmp_path / "cost.json").write_text('{"latency": "fast"}')
    with pytest.raises(UsageError, match=r"cost\.json: field 'latency' must be a number"):
        read_cost(tmp_path, counted)


def test_records_of_older_versions_are_read() -> None:
    raw = result("5b2c44cd", cost={"params": 5, "macs": None, "macs_size": None})
    assert RunRecord.from_dict(raw).cost == Cost(params=5)

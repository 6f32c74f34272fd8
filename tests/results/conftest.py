"""Fabricated runs: a store on disk whose numbers the tests choose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dehaze_bench.results.experiment import Experiment, ExperimentRow
from dehaze_bench.results.record import Failure, RunRecord, write_failure, write_json_atomic
from dehaze_bench.results.store import Store
from tests.results.fabricated import MakeExperiment, MakeRun, result


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "runs").mkdir()
    return Store(tmp_path / "runs")


@pytest.fixture
def make_run(store: Store) -> MakeRun:
    """Write a finished run; `psnr` and `ciede2000` set the means, other keywords replace fields."""

    def make(run_id: str, psnr: float = 17.3, ciede2000: float = 9.5, **changes: Any) -> RunRecord:
        raw = result(run_id, **changes)
        raw["evaluation"]["metrics"]["psnr"]["mean"] = psnr
        raw["evaluation"]["metrics"]["ciede2000"]["mean"] = ciede2000
        directory = store.root / f"{raw['slug']}-{run_id}"
        directory.mkdir()
        write_json_atomic(directory / "result.json", raw)
        return RunRecord.from_dict(raw)

    return make


@pytest.fixture
def make_failure(store: Store) -> Callable[[str, str], Path]:
    def make(run_id: str, message: str) -> Path:
        directory = store.root / f"unet-{run_id}"
        directory.mkdir()
        return write_failure(directory, Failure.from_exception(RuntimeError(message), run_id, "unet", "2026"))

    return make


@pytest.fixture
def make_experiment(tmp_path: Path) -> MakeExperiment:
    def make(*labels: str, seeds: tuple[int, ...] = (0,), **changes: Any) -> Experiment:
        fields: dict[str, Any] = {
            "name": "demo",
            "title": "Scans & mixers",
            "note": "A small table.",
            "base": ("dataset=deadleaves",),
            "rows": tuple(ExperimentRow(label, (f"model={index}",), seeds) for index, label in enumerate(labels)),
            "columns": ("params", "macs", "psnr", "ssim", "ciede2000"),
            "sort": None,
            "references": (),
            "path": tmp_path / "demo.yaml",
        }
        return Experiment(**(fields | changes))

    return make

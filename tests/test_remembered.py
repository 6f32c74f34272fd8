"""Identities that are kept are those that composing would give, and are dropped once what decides them changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dehaze_bench import remembered
from dehaze_bench.compose import compose_run, identify_run
from dehaze_bench.errors import UsageError
from dehaze_bench.remembered import FILE, Memory, fingerprint
from tests import tiny


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The overrides that were really composed."""
    calls: list[tuple[str, ...]] = []

    def compose(overrides):  # type: ignore[no-untyped-def]
        calls.append(tuple(overrides))
        return compose_run(overrides)

    monkeypatch.setattr(remembered, "compose_run", compose)
    return calls


def rows(folder: Path) -> list[tuple[str, ...]]:
    base = tiny.overrides(folder)
    kinds = [["scan=random"], ["model=identity"], ["optimizer.lr=1e-4", "train.steps=7"]]
    return [(*base, *kind, f"seed={seed}") for kind in kinds for seed in (0, 5)]


def test_identities_are_those_of_composition_cold_and_warm(tmp_path: Path, counted: list[tuple[str, ...]]) -> None:
    (tmp_path / "runs").mkdir()
    expected = [identify_run(compose_run(row)) for row in rows(tmp_path)]
    for number_composed in (3, 1):
        counted.clear()
        memory = Memory()
        found = [memory.identify(row) for row in rows(tmp_path)]
        memory.save()
        assert [(known.id, known.name) for known in found] == [(e.id, e.name) for e in expected]
        assert {known.runs for known in found} == {str(tmp_path / "runs")}
        assert len(counted) == number_composed, "once per row, then the first row alone, which names the folder"


def test_nothing_is_written_where_there_are_no_runs(tmp_path: Path) -> None:
    memory = Memory()
    memory.identify(rows(tmp_path)[0])
    memory.save()
    assert list(tmp_path.rglob(FILE)) == []


@pytest.mark.parametrize("content", ["", "[]", "{", '{"fingerprint": 1}', '{"fingerprint": "x", "rows": {}}'])
def test_a_spoilt_or_old_file_is_composed_anew(tmp_path: Path, content: str, counted: list[tuple[str, ...]]) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / FILE).write_text(content)
    memory = Memory()
    for row in rows(tmp_path)[:4]:
        memory.identify(row)
    memory.save()
    assert len(counted) == 2
    assert json.loads((tmp_path / "runs" / FILE).read_text())["fingerprint"] == fingerprint()


def test_the_fingerprint_follows_configs_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = fingerprint()
    monkeypatch.setenv("DEHAZE_DATA", "/elsewhere")
    second = fingerprint()
    (tmp_path / "conf" / "scan").mkdir(parents=True)
    (tmp_path / "conf" / "scan" / "mine.yaml").write_text("name: mine\n")
    third = fingerprint()
    (tmp_path / "conf" / "scan" / "mine.yaml").write_text("name: mean\n")
    assert len({first, second, third, fingerprint()}) == 4


def test_files_of_weights_are_looked_at_each_time(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"one")
    row = (*tiny.overrides(tmp_path), "model=aodnet", f"weights={weights}", "seed=0")
    memory = Memory()
    first = memory.identify(row)
    memory.save()
    weights.write_bytes(b"two")
    assert Memory().identify(row).id != first.id
    weights.unlink()
    assert "w.pth is not there" in Memory().identify(row).reason


def test_errors_are_those_of_composition(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Unknown scan 'rastre'"):
        Memory().identify((*tiny.overrides(tmp_path), "scan=rastre", "seed=0"))

"""Every fixture of a published network that the repository carries: ours computes what the published code computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dehaze_bench.verify import check
from dehaze_bench.verify.built import FAMILIES, repository
from dehaze_bench.verify.fixture import load_fixture

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def fixtures() -> list[Path]:
    found = []
    for spec in sorted(GOLDEN.glob("*/spec.json")):
        source = json.loads(spec.read_text(encoding="utf-8")).get("source", "")
        if repository(source) in FAMILIES:
            found.append(spec.parent)
    return found


@pytest.mark.parametrize("path", fixtures(), ids=lambda path: path.name)
def test_ours_is_the_published_network(path: Path) -> None:
    rows = check(load_fixture(path))
    assert rows
    assert all(row.ok for row in rows), [(row.array, row.error, row.note) for row in rows if not row.ok]


@pytest.mark.parametrize("path", fixtures()[:8], ids=lambda path: path.name)
def test_an_argument_that_is_not_understood_is_an_error(path: Path, tmp_path: Path) -> None:
    from dehaze_bench.errors import UsageError

    copy = tmp_path / path.name
    copy.mkdir()
    spec = json.loads((path / "spec.json").read_text(encoding="utf-8"))
    spec["build"]["surprise"] = 1
    (copy / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    (copy / "out.npz").write_bytes((path / "out.npz").read_bytes())
    with pytest.raises(UsageError, match="surprise"):
        check(load_fixture(copy))

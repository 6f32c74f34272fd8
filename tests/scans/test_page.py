"""docs/scans.md is what `make docs` would write now; of the pictures, which people look at, only presence and size."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from dehaze_bench.scans import catalogue, page
from dehaze_bench.scans.catalogue import Entry

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
WRITTEN = (DOCS / "scans.md").read_text(encoding="utf-8")


def test_the_page_has_every_scan_and_no_other() -> None:
    files = sorted(path.stem for path in (ROOT / "conf" / "scan").glob("*.yaml"))
    assert sorted(re.findall(r"^### (\w+)$", WRITTEN, flags=re.MULTILINE)) == files
    assert sorted(re.findall(r"^\| \[(\w+)\]\(#\1\) ", WRITTEN, flags=re.MULTILINE)) == files


def test_the_page_says_what_the_scans_are_now() -> None:
    assert page.text(page.packaged()) == WRITTEN, "docs/scans.md is stale: run `make docs`"


def test_pictures_are_there_and_small() -> None:
    shown = re.findall(r"!\[.*?\]\((.*?)\)", WRITTEN)
    assert len(shown) == sum(not entry.is_native for entry in page.packaged())
    for name in shown:
        assert 1000 < (DOCS / name).stat().st_size < 60_000, name
    assert {path.name for path in (DOCS / page.FOLDER).iterdir()} == {Path(name).name for name in shown}
    assert sum(path.stat().st_size for path in DOCS.rglob("*") if path.is_file()) < 1_500_000


@pytest.mark.parametrize("name", [entry.name for entry in page.packaged() if entry.is_dynamic])
def test_an_example_of_a_drawn_order_repeats(name: str) -> None:
    (entry,) = [entry for entry in page.packaged() if entry.name == name]
    first, second = (np.concatenate([ids for _, ids in page.example(entry, (6, 6))]) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(np.sort(first, axis=1), np.tile(np.arange(36), (len(first), 1)))


def test_writing_takes_away_old_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raster, native = (next(e for e in catalogue.entries() if e.name == name) for name in ("raster", "native"))

    def few() -> list[Entry]:
        return [native, raster]

    monkeypatch.setattr(page, "packaged", few)
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "gone.png").write_bytes(b"")
    assert page.main([str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"scans.md", "raster.png"}
    first = (tmp_path / "scans" / "raster.png").read_bytes()
    assert page.main([str(tmp_path)]) == 0
    assert (tmp_path / "scans" / "raster.png").read_bytes() == first
    assert page.main([]) == 2

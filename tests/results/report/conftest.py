"""Fabricated runs with pictures, and the report that is made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dehaze_bench.results.report.board import Board
from dehaze_bench.results.report.everything import tabulate
from dehaze_bench.results.report.site import ScanShown, Written, write_report
from dehaze_bench.results.store import Store
from dehaze_bench.track.pictures import error_map
from tests.results.fabricated import fabricate_many

RUNS, PICTURES = 7, 2


def make_runs(root: Path, runs: int = RUNS, images: int = 8, pictures: int = PICTURES) -> Store:
    """Finished runs, five seeds a row, whose first images have hazy and clear versions beside the restored one."""
    for record in fabricate_many(root, runs=runs, images=images, seeds=5, pictures=pictures):
        add_pictures(root / record.dir / "images" / "photos")
    return Store(root)


def add_pictures(folder: Path) -> None:
    """Lay a hazy and a clear version beside every restored picture; they are the same for all runs, as in life."""
    for index, path in enumerate(sorted(folder.glob("*.png"))):
        with Image.open(path) as picture:
            size = picture.size
        x = np.linspace(0, 255, size[0])[None, :, None] * np.ones((size[1], 1, 3))
        clear = np.roll(x, 40 * index, axis=1).astype(np.uint8)
        for kind, levels in (("clear", clear), ("hazy", clear // 2 + 110)):
            target = folder / kind / path.name
            target.parent.mkdir(exist_ok=True)
            Image.fromarray(levels).save(target)


def write(store: Store, out: Path, scans: Sequence[ScanShown] = ()) -> Written:
    runs = store.runs()
    boards = [Board(table) for table in tabulate(runs, store, [])]
    return write_report(out, runs, boards, scans, error_map)


def data_of(out: Path, name: str) -> dict[str, object]:
    """The data that a page loads as a script, as the page sees it."""
    text = (out / "data" / f"{name}.js").read_text(encoding="utf-8")
    found = json.loads(text.partition("] = ")[2].rstrip().rstrip(";"))
    assert isinstance(found, dict)
    return found


@pytest.fixture
def runs(tmp_path: Path) -> Store:
    return make_runs(tmp_path / "runs")

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dehaze_bench.errors import UsageError
from dehaze_bench.results.cells import Cell, Group, Kind, Row, Table
from dehaze_bench.results.pareto import on_front, points
from dehaze_bench.results.plots import _levels, draw_all, draw_quality, draw_ranks
from dehaze_bench.results.rank_tests import RankTest, rank_test

GROUP = Group("photos", "full_rgb", "last")


def row(label: str, macs: float | None, psnr: float | None, kind: Kind = "ours", group: Group = GROUP) -> Row:
    higher = None if kind == "printed" else True
    cells = (Cell("macs", kind, macs), Cell("psnr", kind, psnr, 0.1, group=group, higher=higher))
    return Row(label, kind, cells, group, done=3, planned=3)


def table(*rows: Row, ranks: RankTest | None = None) -> Table:
    return Table("t", "Scans & $mixers", ("macs", "psnr"), rows, (), (), ranks=ranks)


def ranks(num_rows: int, spread: float = 1.0) -> RankTest:
    values = np.random.default_rng(0).normal(0, 1, (60, num_rows)) + spread * np.arange(num_rows)
    return rank_test([f"row <{i}> $x_{i}$" for i in range(num_rows)], values, True, "psnr", "images")


def test_the_front_is_what_nothing_beats() -> None:
    found = points(
        table(row("a", 1e9, 20.0), row("b", 2e9, 21.0), row("c", 2e9, 20.5), row("d", 3e9, 20.9)), "macs", "psnr"
    )
    assert [point.label for point in found if point.front] == ["a", "b"]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=9))
def test_something_is_on_the_front_and_it_rises(pairs: list[tuple[int, int]]) -> None:
    front = sorted({pair for pair in pairs if on_front(*pair, pairs)})
    assert front
    assert [quality for _, quality in front] == sorted({quality for _, quality in front})
    for cost, quality in set(pairs) - set(front):
        assert any(c <= cost and q >= quality for c, q in front)


def test_only_comparable_rows_share_a_plot_and_printed_ones_make_no_front() -> None:
    other, prior = Group("photos", "full_y", "last"), Group("photos", "full_rgb", "none")
    printed = Group("photos", "full_rgb", None)
    found = points(
        table(
            row("prior", 1e8, 15.0, group=prior),
            row("ours", 1e9, 20.0),
            row("y", 1e9, 30.0, group=other),
            row("picked", 1e9, 31.0, group=Group("photos", "full_rgb", "best@test")),
            row("paper", 5e8, 40.0, "printed", printed),
            row("without", None, 22.0),
        ),
        "macs",
        "psnr",
    )
    assert [(point.label, point.front) for point in found] == [("prior", True), ("ours", True), ("paper", False)]


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_pictures_are_made_and_repeat(tmp_path: Path, suffix: str) -> None:
    made = table(row("a", 1e9, 20.0), row("<b>", 2e9, 21.0), row("p", 3e9, 22.0, "printed"), ranks=ranks(4))
    paths = [tmp_path / f"{name}.{suffix}" for name in ("quality", "ranks")]
    for _ in range(2):
        draw_quality(made, "macs", "psnr", paths[0])
        draw_ranks(made.ranks, made.title, paths[1])  # type: ignore[arg-type]
        contents = [path.read_bytes() for path in paths]
    draw_quality(made, "macs", "psnr", paths[0])
    assert paths[0].read_bytes() == contents[0]
    if suffix == "svg":
        assert all(b"<script" not in content and b"http://www.w3.org/2000/svg" in content for content in contents)
    if suffix == "png":
        assert min(Image.open(paths[1]).size) > 100


def test_everything_that_has_numbers_is_drawn(tmp_path: Path) -> None:
    assert draw_all(table(row("a", 1e9, 20.0), row("b", 2e9, 21.0), ranks=ranks(3)), tmp_path) == [
        *(tmp_path / "quality_macs.svg", tmp_path / "ranks.svg")
    ]
    assert draw_all(table(row("a", 1e9, None), row("b", 0.0, 21.0)), tmp_path / "none") == []
    with pytest.raises(UsageError, match="no row of t has both macs and psnr"):
        draw_quality(table(row("a", None, 20.0)), "macs", "psnr", tmp_path / "x.svg")


@pytest.mark.parametrize(("num_rows", "spread"), [(3, 0.0), (9, 0.3), (40, 0.1)])
def test_diagrams_of_few_and_many_rows(tmp_path: Path, num_rows: int, spread: float) -> None:
    draw_ranks(ranks(num_rows, spread), "t", tmp_path / "r.png")
    width, height = Image.open(tmp_path / "r.png").size
    assert width > 600 and height > 150 + 12 * num_rows


def test_bars_of_one_level_keep_clear_of_each_other() -> None:
    bars = [(0.0, 0.3), (0.1, 0.4), (0.305, 0.5), (0.45, 0.6), (0.7, 0.8)]
    assert _levels(bars) == [0, 1, 2, 0, 0]


def test_other_suffixes_and_a_missing_matplotlib_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = table(row("a", 1e9, 20.0))
    with pytest.raises(UsageError, match=r"must end with \.svg, \.png or \.pdf"):
        draw_quality(made, "macs", "psnr", tmp_path / "x.jpg")
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'dehaze-bench\[plots\]'"):
        draw_quality(made, "macs", "psnr", tmp_path / "x.svg")

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dehaze_bench.results.cells import Cell, Group, Row, Table
from dehaze_bench.results.comparisons import holm, wilcoxon
from dehaze_bench.results.report.matrix import LARGEST, compare_all

Values = dict[str, list[np.ndarray]]


def make_table(folder: Path, values: Values, select: dict[str, str] | None = None) -> tuple[Table, dict[str, Path]]:
    """Rows by label, each with the PSNR of every image for every seed."""
    rows, folders = [], {}
    for index, (label, seeds) in enumerate(values.items()):
        runs = []
        for seed, images in enumerate(seeds):
            run = f"{index:04x}{seed:04x}"
            folders[run] = folder / run
            folders[run].mkdir()
            lines = [f"i{n},{value!r}" for n, value in enumerate(images.tolist())]
            (folders[run] / "per_image.csv").write_text("\n".join(["name,psnr", *lines]))
            runs.append(run)
        group = Group("photos", "full_rgb", (select or {}).get(label, "last"))
        mean = float(np.mean(seeds))
        cell = Cell("psnr", "ours", mean, None, len(runs), tuple(runs), group, True)
        rows.append(Row(label, "ours", (cell,), group, done=len(runs), planned=len(runs)))
    return Table("t", "T", ("psnr",), tuple(rows), (), ()), folders


@pytest.fixture
def values() -> Values:
    rng = np.random.default_rng(3)
    hard = rng.normal(20, 3, 30)
    noise = [[rng.normal(0, 0.3, 30) for _ in range(3)] for _ in range(3)]
    return {
        label: [hard + shift + each for each in row]
        for (label, shift), row in zip({"low": -2.0, "one": 0.0, "same": 0.005}.items(), noise, strict=True)
    }


def test_every_pair_is_tested_on_the_same_images_and_corrected_together(tmp_path: Path, values: Values) -> None:
    (matrix,), problems = compare_all(*_args(tmp_path, values))
    assert problems == []
    assert matrix.labels[-1] == "low" and set(matrix.labels) == set(values)
    means = {label: np.mean(seeds, axis=0) for label, seeds in values.items()}
    pairs = [(0, 1), (0, 2), (1, 2)]
    raw = [wilcoxon(means[matrix.labels[i]] - means[matrix.labels[j]]) for i, j in pairs]
    for (i, j), p in zip(pairs, holm(raw), strict=True):
        pair, back = matrix.cells[i][j], matrix.cells[j][i]
        assert pair is not None and back is not None
        assert pair.p == pytest.approx(p) and back.p == pair.p
        expected = float((means[matrix.labels[i]] - means[matrix.labels[j]]).mean())
        assert pair.difference == pytest.approx(expected) and back.difference == -pair.difference
        assert pair.low is not None and back.high == -pair.low
    assert [matrix.cells[i][i] for i in range(3)] == [None] * 3


def test_words_and_colours_are_opposite_across_the_diagonal(tmp_path: Path, values: Values) -> None:
    (matrix,), _ = compare_all(*_args(tmp_path, values))
    top, low = matrix.cells[0][2], matrix.cells[2][0]
    assert top is not None and low is not None
    assert (top.words, top.tone, low.words, low.tone) == ("better", "better", "worse", "worse")
    equal = matrix.cells[0][1]
    assert equal is not None and (equal.words, equal.tone) == ("no difference shown", "")
    assert "n = 30 images" in matrix.caption and "3 pairs" in matrix.caption


def test_one_seed_is_said(tmp_path: Path, values: Values) -> None:
    (matrix,), _ = compare_all(*_args(tmp_path, {label: seeds[:1] for label, seeds in values.items()}))
    pair = matrix.cells[0][2]
    assert pair is not None and pair.words == "better (one seed)" and pair.tone == "better limited"
    back = matrix.cells[2][0]
    assert back is not None and back.words == "worse (one seed)"


def test_mean_ranks_stand_beside_the_rows(tmp_path: Path, values: Values) -> None:
    (matrix,), _ = compare_all(*_args(tmp_path, values))
    assert matrix.ranks[2] == 3.0 and sum(matrix.ranks) == pytest.approx(6.0)


def test_rows_chosen_by_other_rules_do_not_meet(tmp_path: Path, values: Values) -> None:
    table, folders = make_table(tmp_path, values, {"one": "best@test", "low": "none"})
    matrices, _ = compare_all(table, "psnr", "images", folders)
    assert sorted(sorted(matrix.labels) for matrix in matrices) == [["low", "one"], ["low", "same"]]


def test_other_images_are_a_problem_in_words(tmp_path: Path, values: Values) -> None:
    values["short"] = [values["one"][0][:7]]
    matrices, problems = compare_all(*_args(tmp_path, values))
    assert matrices == [] and len(problems) == 1 and "images" in problems[0]


def test_of_many_rows_the_best_are_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    many = {f"r{index:02}": [rng.normal(20 + index, 1, 6)] for index in range(LARGEST + 3)}
    (matrix,), _ = compare_all(*_args(tmp_path, many))
    assert matrix.labels[0] == f"r{LARGEST + 2}" and len(matrix.labels) == LARGEST
    assert "3 more are left out" in matrix.caption


def _args(folder: Path, values: Values) -> tuple[Table, str, object, dict[str, Path]]:
    table, folders = make_table(folder, values)
    return table, "psnr", "images", folders

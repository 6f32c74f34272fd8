from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dehaze_bench.errors import UsageError
from dehaze_bench.results.samples import Sample, check_same_images, read_sample
from dehaze_bench.results.significance import compare_rows, rank_rows

NAMES = ("1400_1", "1400_2", "1401_1", "1402_1")


def write(folder: Path, **values: object) -> Path:
    folder.mkdir()
    lines = ["name,psnr,ssim", *(f"{name.lstrip('x')},{value},0.5" for name, value in values.items())]
    (folder / "per_image.csv").write_text("\n".join(lines) + "\n")
    return folder


def sample(values_SN: list[list[float]], label: str = "a", names: tuple[str, ...] = NAMES, **changes: bool) -> Sample:
    return Sample(label, "psnr", tuple(range(len(values_SN))), names, np.array(values_SN), **changes)


def test_images_are_matched_by_name_whatever_their_order(tmp_path: Path) -> None:
    runs = {1: write(tmp_path / "b", x2=21.0, x1=11.0), 0: write(tmp_path / "a", x1=10.0, x2=20.0)}
    found = read_sample("row", "psnr", runs)
    assert (found.seeds, found.names) == ((0, 1), ("1", "2"))
    assert found.values_SN.tolist() == [[10.0, 20.0], [11.0, 21.0]]
    assert found.blocks("images").tolist() == [10.5, 20.5]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"x1": "abc"}, r"per_image.csv, line 2: could not convert"),
        ({"x1": "nan"}, r"line 2: psnr of '1' is not a number"),
        ({"x1": 1.0, "xx1": 2.0}, r"line 3: '1' stands there twice"),
        ({}, "has no images"),
    ],
)
def test_a_spoilt_file_is_named(tmp_path: Path, values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_sample("row", "psnr", {0: write(tmp_path / "a", **values)})


def test_a_missing_file_or_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no column 'psnrr' to compare\. Did you mean 'psnr'"):
        read_sample("row", "psnrr", {0: write(tmp_path / "a", x1=1.0)})
    with pytest.raises(UsageError, match=r"b/per_image\.csv: cannot be read"):
        read_sample("row", "psnr", {0: tmp_path / "b"})


def test_unequal_image_sets_are_named(tmp_path: Path) -> None:
    runs = {0: write(tmp_path / "a", x1=1.0, x2=2.0), 1: write(tmp_path / "b", x1=1.0, x3=2.0)}
    with pytest.raises(
        UsageError, match=r"'row' with seed 0 \(2 images\).*seed 1 \(2 images\): only .* has 2; only .* has 3"
    ):
        read_sample("row", "psnr", runs)
    many = tuple(f"{i:02}" for i in range(9))
    with pytest.raises(UsageError, match=r"only 'b' has 04, 05, 06 and 2 more\. Evaluate both on the same test set"):
        check_same_images(sample([[0.0] * 4], names=many[:4]), sample([[0.0] * 9], "b", many))
    with pytest.raises(UsageError, match="cannot compare 'a'"):
        compare_rows(sample([[0.0] * 4]), [sample([[0.0] * 4], "b", many[:4])], True, "images")


def test_scenes_average_their_images() -> None:
    found = sample([[1.0, 3.0, 5.0, 7.0], [3.0, 5.0, 7.0, 9.0]])
    assert found.blocks("scenes").tolist() == [3.0, 6.0, 8.0]
    assert found.blocks_by_seed("scenes").tolist() == [2.0, 5.0, 7.0, 4.0, 7.0, 9.0]


def test_comparisons_count_what_they_are_made_of() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(20, 3, 12)
    names = tuple(f"{i // 3}_{i % 3}" for i in range(12))
    base = sample([list(hard + rng.normal(0, 0.01, 12)) for _ in range(3)], "base", names)
    more = sample([list(hard + 1 + rng.normal(0, 0.01, 12)) for _ in range(2)], "more", names)
    same = sample([list(hard + rng.normal(0, 0.01, 12))], "same", names)
    found = compare_rows(base, [more, same], True, "images")
    assert (found["more"].n, found["more"].seeds, found["more"].family) == (12, (2, 3), 2)
    assert found["more"].difference == pytest.approx(1.0, abs=0.02)
    assert (found["more"].verdict, found["more"].words) == ("better", "better")
    assert found["more"].adjusted == pytest.approx(min(1.0, 2 * found["more"].p))
    assert found["same"].words == "no difference shown"
    by_scene = compare_rows(base, [more], True, "scenes")["more"]
    assert (by_scene.n, by_scene.unit) == (4, "scenes")
    assert by_scene.verdict == "no difference shown", "four scenes cannot reach p < 0.05"
    assert compare_rows(base, [], True, "images") == {}


def test_one_seed_and_the_spread_of_several_limit_what_is_said() -> None:
    base, names = [20.0 + i for i in range(10)], tuple(f"{i}" for i in range(10))
    fixed = sample([base], "base", names, trained=False)
    once = compare_rows(fixed, [sample([[x + 1 for x in base]], "once", names)], True, "images")["once"]
    assert once.words == "better (one seed)"
    wild = sample([[x + shift for x in base] for shift in (-3.0, 1.0, 5.0)], "wild", names)
    assert compare_rows(fixed, [wild], True, "images")["wild"].words == "better (within seed spread)"
    worse = sample([[x - shift for x in base] for shift in (1.0, 1.1, 0.9)], "worse", names)
    assert compare_rows(fixed, [worse], True, "images")["worse"].words == "worse"
    lower = compare_rows(fixed, [worse], False, "images")["worse"]
    assert lower.words == "better"


def test_ranks_over_scenes_take_seeds_apart_only_where_all_have_them() -> None:
    rng = np.random.default_rng(1)
    rows = [sample(rng.normal(level, 1, (2, 4)).tolist(), f"r{level}") for level in range(3)]
    images, scenes = rank_rows(rows, True, "images"), rank_rows(rows, True, "scenes")
    assert images is not None and scenes is not None
    assert (images.num_blocks, images.blocks) == (4, "images")
    assert (scenes.num_blocks, scenes.blocks) == (6, "blocks (scenes x 2 seeds)")
    uneven = rank_rows([*rows[:2], sample([[0.0, 1.0, 2.0, 3.0]], "one")], True, "scenes")
    assert uneven is not None
    assert (uneven.num_blocks, uneven.blocks) == (3, "scenes")
    assert rank_rows(rows[:2], True, "images") is None
    assert rank_rows([sample([[1.0]], n, ("1",)) for n in "abc"], True, "images") is None

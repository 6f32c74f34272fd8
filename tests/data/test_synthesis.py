"""Recipes of haze: ranges, grids, the round trip, determinism; folders and names; training; the command."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dehaze_bench.compose import compose_run
from dehaze_bench.data.haze import add_haze, remove_haze, round_to_8bit
from dehaze_bench.data.layouts import FolderPairs
from dehaze_bench.data.pairs import read_image
from dehaze_bench.data.synthesis import (
    RECIPES,
    Haze,
    Recipe,
    choose_recipe,
    compress,
    draw_haze,
    find_transmission,
    generator,
    haze_of_copy,
    make_hazy,
)
from dehaze_bench.data.synthesis_depth import DepthRule, read_depth, read_distance
from dehaze_bench.data.synthesis_folders import Settings, format_number, synthesize
from dehaze_bench.data.synthesis_training import HazeOnDepth
from dehaze_bench.datasets.synthesize import run
from dehaze_bench.errors import UsageError

SIZE = (40, 48)
WHOLE = (0, 0, *SIZE)
Tree = tuple[Path, Path]


def picture(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return clear (3, H, W) at 8-bit levels and depth (H, W) in (0, 4]."""
    rng = np.random.default_rng(seed)
    clear = rng.integers(0, 256, (3, *SIZE)).astype(np.float32) / np.float32(255)
    return clear, rng.uniform(0.5, 4, SIZE).astype(np.float32)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return make_tree(tmp_path)


def make_tree(root: Path) -> Tree:
    """Make two folders with three scenes: depth as 8-bit PNG, 16-bit PNG and NPY."""
    clear, depth = root / "clear", root / "depth"
    clear.mkdir()
    depth.mkdir()
    for index in range(3):
        pixels, metres = picture(index)
        Image.fromarray(np.rint(pixels.transpose(1, 2, 0) * 255).astype(np.uint8)).save(clear / f"{index + 1}.png")
        if index == 2:
            np.save(depth / "3.npy", metres)
        else:
            Image.fromarray((metres * (60, 1000)[index]).astype((np.uint8, np.uint16)[index])).save(
                depth / f"{index + 1}.png"
            )
    return clear, depth


def make(tree: Tree, out: Path, recipe: str = "its", rule: DepthRule | None = None, **settings: object) -> int:
    return synthesize(choose_recipe(recipe), *tree, out, Settings(**settings), rule or DepthRule())


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "haze.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


# Recipes


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_known_transmission_and_airlight_give_the_clear_picture_back(name: str) -> None:
    recipe, (clear, depth) = RECIPES[name], picture()
    distance = depth / depth.max() if recipe.distance != "metres" else depth
    for copy in range(12):
        haze = draw_haze(recipe, generator(0, 0, copy))
        t = find_transmission(distance, haze, SIZE, WHOLE)
        assert t.min() > 0
        assert t.max() <= 1
        hazy = add_haze(clear, t, haze.airlight)
        assert np.abs(remove_haze(hazy, t, haze.airlight) - clear).max() < 1e-5
        if not recipe.degraded:
            assert np.array_equal(make_hazy(clear, distance, haze, generator(0, 0, copy)), round_to_8bit(hazy))


@pytest.mark.parametrize("name", ["its", "ridcp", "uneven"])
def test_drawn_parameters_fill_the_published_ranges_evenly(name: str) -> None:
    beta, airlight = {"ridcp": ((0.3, 1.5), (0.25, 1.0))}.get(name, ((0.6, 1.8), (0.7, 1.0)))
    hazes = [draw_haze(RECIPES[name], generator(3, index, 0)) for index in range(2000)]
    for values, (low, high) in (([h.beta for h in hazes], beta), ([h.grey for h in hazes], airlight)):
        counts, _ = np.histogram(values, 10, (low, high))
        assert min(values) >= low
        assert max(values) <= high
        assert counts.sum() == 2000, "the histogram spans the range, so nothing lies outside it"
        # 200 are expected per bin, with a deviation of 13.4.
        assert 140 < counts.min() <= counts.max() < 260
    assert abs(np.corrcoef([h.beta for h in hazes], [h.grey for h in hazes])[0, 1]) < 0.1
    shifts = np.array([np.subtract(h.airlight, h.grey) for h in hazes])
    if name == "ridcp":
        assert np.abs(shifts).max() <= 0.025 + 1e-9
        assert np.abs(shifts).max() > 0.0245
        assert np.abs(shifts.mean(axis=0)).max() < 0.002
    else:
        assert not shifts.any()
    assert all(0.4 <= h.uneven <= 1 for h in hazes) if name == "uneven" else not any(h.uneven for h in hazes)


def test_outdoor_haze_is_every_pair_of_the_published_levels() -> None:
    hazes = [haze_of_copy(RECIPES["ots"], copy, generator(0, 0, copy)) for copy in range(35)]
    assert [h.grey for h in hazes[::7]] == [0.8, 0.85, 0.9, 0.95, 1.0]
    assert [h.beta for h in hazes[:7]] == [0.04, 0.06, 0.08, 0.1, 0.12, 0.16, 0.2]
    assert len({(h.grey, h.beta) for h in hazes}) == RECIPES["ots"].copies == 35
    drawn = [draw_haze(RECIPES["ots"], generator(0, index, 0)) for index in range(700)]
    assert {(h.grey, h.beta) for h in drawn} == {(h.grey, h.beta) for h in hazes}


def test_ridcp_degrades_half_of_the_pictures_in_each_way() -> None:
    hazes = [draw_haze(RECIPES["ridcp"], generator(0, index, 0)) for index in range(2000)]
    dark = [h.gamma for h in hazes if h.gamma != 1]
    noisy = [h for h in hazes if h.noise != "none"]
    quality = [h.quality for h in hazes if h.quality is not None]
    for some in (dark, noisy, quality):
        assert 900 < len(some) < 1100
    assert min(dark) >= 1.5
    assert max(dark) <= 3
    assert max(dark) - min(dark) > 1.45
    assert (min(quality), max(quality)) == (30, 95)
    share = {kind: sum(h.noise == kind for h in noisy) / len(noisy) for kind in ("colour", "grey", "correlated")}
    assert share == pytest.approx({"colour": 0.4, "grey": 0.4, "correlated": 0.2}, abs=0.06)
    levels = {round(h.sigma * 255) for h in noisy if h.noise != "correlated"}
    assert levels == set(range(2, 26))
    assert {round(h.sigma * 255) for h in noisy if h.noise == "correlated"} == {25}


def test_each_degradation_does_what_it_says() -> None:
    clear, distance = np.full((3, 64, 64), 0.5, np.float32), np.zeros((64, 64), np.float32)
    rng = np.random.default_rng
    darker = make_hazy(clear, distance, Haze(1, 0.9, (0.9,) * 3, gamma=2.0), rng(0))
    assert darker == pytest.approx(0.25, abs=0.5 / 255)
    grey = make_hazy(clear, distance, Haze(1, 0.9, (0.9,) * 3, noise="grey", sigma=0.1), rng(0))
    assert np.ptp(grey, axis=0).max() == 0
    assert grey.std() == pytest.approx(0.1, rel=0.05)
    colour = make_hazy(clear, distance, Haze(1, 0.9, (0.9,) * 3, noise="colour", sigma=0.1), rng(0))
    assert colour.std() == pytest.approx(0.1, rel=0.05)
    assert np.abs(np.corrcoef(colour.reshape(3, -1))[0, 1]) < 0.1
    root = np.array([[0.6, 0.3, 0], [0.3, 0.6, 0], [0, 0, 0.2]], np.float32)
    mixed = make_hazy(clear, distance, Haze(1, 0.9, (0.9,) * 3, noise="correlated", sigma=0.1, root_CC=root), rng(0))
    assert np.cov(mixed.reshape(3, -1)) == pytest.approx(0.01 * root @ root, abs=3e-4)
    noise, _ = picture()
    packed = make_hazy(noise, np.zeros(SIZE, np.float32), Haze(1, 0.9, (0.9,) * 3, quality=30), rng(0))
    assert np.array_equal(packed, compress(noise, 30))
    assert np.abs(packed - noise).mean() > np.abs(compress(noise, 95) - noise).mean() > 0


def test_noise_lies_under_the_haze() -> None:
    clear, far = np.full((3, 32, 32), 0.5, np.float32), np.full((32, 32), 50, np.float32)
    haze = Haze(1, 0.75, (0.75,) * 3, noise="colour", sigma=0.1)
    assert np.ptp(make_hazy(clear, far, haze, np.random.default_rng(0))) == 0


def test_uneven_haze_is_smooth_and_the_same_in_every_window() -> None:
    haze = draw_haze(RECIPES["uneven"], generator(0, 1, 0))
    ones = np.ones((120, 160), np.float32)
    density = -np.log(find_transmission(ones, haze, (120, 160), (0, 0, 120, 160))) / haze.beta
    assert density.min() >= 0
    assert density.max() <= 2
    assert np.ptp(density) > 0.5
    assert max(np.abs(np.diff(density, axis=0)).max(), np.abs(np.diff(density, axis=1)).max()) < 0.15
    part = find_transmission(ones[:30, :50], haze, (120, 160), (17, 71, 30, 50))
    whole = find_transmission(ones, haze, (120, 160), (0, 0, 120, 160))
    assert part == pytest.approx(whole[17:47, 71:121], abs=1e-6)
    means = [
        np.mean(-np.log(find_transmission(ones, h, (120, 160), (0, 0, 120, 160))) / h.beta)
        for h in (draw_haze(RECIPES["uneven"], generator(0, index, 0)) for index in range(60))
    ]
    assert np.mean(means) == pytest.approx(1, abs=0.05)


def test_haze_is_a_pure_function_of_seed_scene_and_copy() -> None:
    clear, depth = picture()
    for recipe in RECIPES.values():

        def once(seed: int, index: int, copy: int, recipe: Recipe = recipe) -> tuple[Haze, np.ndarray]:
            rng = generator(seed, index, copy)
            haze = haze_of_copy(recipe, copy, rng)
            return haze, make_hazy(clear, depth, haze, rng)

        first, again = once(1, 2, 3), once(1, 2, 3)
        assert first[0] == again[0]
        assert np.array_equal(first[1], again[1])
        if not recipe.is_grid:
            others = {once(*key)[0] for key in ((1, 2, 3), (0, 2, 3), (1, 3, 3), (1, 2, 4))}
            assert len(others) == 4


def test_ranges_can_be_replaced_within_reason() -> None:
    assert {draw_haze(choose_recipe("its", beta=[1, 1]), generator(0, i, 0)).beta for i in range(5)} == {1.0}
    assert choose_recipe("ots", beta=[0.3, 0.5]).copies == 10
    with pytest.raises(UsageError, match=r"recipe=itss.*Did you mean 'its'"):
        choose_recipe("itss")
    for recipe, key, values, word in (
        ("its", "beta", [2, 1], r"beta=\[2, 1\] does not suit recipe its.*low <= high"),
        ("its", "beta", [1], "low, high"),
        ("its", "airlight", [0.5, 1.2], "none above 1"),
        ("ots", "beta", [], "a list of different levels"),
        ("ots", "airlight", [0.5, 0.5], "different levels"),
    ):
        with pytest.raises(UsageError, match=word):
            choose_recipe(recipe, **{key: values})


# Depth


def test_depth_of_any_type_becomes_the_distance_of_the_recipe(tmp_path: Path) -> None:
    stored = np.array([[1000, 2000], [3000, 4000]], np.uint16)
    Image.fromarray(stored).save(tmp_path / "a.png")
    Image.fromarray((stored // 20).astype(np.uint8)).save(tmp_path / "b.png")
    np.save(tmp_path / "c.npy", (stored / 1000).astype(np.float64)[None])
    Image.fromarray((stored / 1000).astype(np.float32)).save(tmp_path / "d.tiff")
    Image.fromarray(np.repeat((stored // 20).astype(np.uint8)[..., None], 3, 2)).save(tmp_path / "e.png")
    relative = np.array([[0.25, 0.5], [0.75, 1]])
    for name in ("a.png", "b.png", "c.npy", "d.tiff", "e.png"):
        found = read_distance(tmp_path / name, DepthRule(), "max")
        assert found.dtype == np.float32
        assert found == pytest.approx(relative, abs=1e-6)
        span = read_distance(tmp_path / name, DepthRule(), "span")
        assert span == pytest.approx((relative - 0.25) / 0.75 * 2, abs=1e-6)
        back = read_distance(tmp_path / name, DepthRule(kind="inverse"), "span")
        assert back == pytest.approx(2 - span, abs=1e-6)
    metres = np.array([[1, 2], [3, 4]])
    assert read_distance(tmp_path / "a.png", DepthRule(scale=0.001), "metres") == pytest.approx(metres, abs=1e-6)
    assert read_distance(tmp_path / "c.npy", DepthRule(), "metres") == pytest.approx(metres)
    assert read_distance(tmp_path / "b.png", DepthRule(far=8), "metres") == pytest.approx(2 * metres, abs=1e-5)
    far = read_distance(tmp_path / "b.png", DepthRule(far=9, kind="inverse"), "metres")
    assert far == pytest.approx(np.array([[9, 6], [3, 0]]), abs=1e-5)


def test_metric_recipes_do_not_guess_a_unit(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 7, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"a\.png: .*whole numbers.*depth\.scale .*or depth\.far"):
        read_distance(tmp_path / "a.png", DepthRule(), "metres")
    with pytest.raises(UsageError, match=r"a\.png: .*inverse depth.*depth\.far"):
        read_distance(tmp_path / "a.png", DepthRule(kind="inverse"), "metres")
    with pytest.raises(UsageError, match=r"depth\.scale is of no use"):
        read_distance(tmp_path / "a.png", DepthRule(scale=1), "max")


def test_holes_are_named_filled_or_kept(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0, 2, 3], [np.nan, 2, 4]], np.float32))
    with pytest.raises(UsageError, match=r"a\.npy: 2 of 6 pixels have no depth.*depth\.holes=nearest"):
        read_distance(tmp_path / "a.npy", DepthRule(), "max")
    filled = read_distance(tmp_path / "a.npy", DepthRule(holes="nearest"), "metres")
    assert filled.tolist() == [[2, 2, 3], [2, 2, 4]]
    with pytest.raises(UsageError, match=r"1 of 6 pixels have no depth .*not finite"):
        read_distance(tmp_path / "a.npy", DepthRule(holes="keep"), "max")
    np.save(tmp_path / "b.npy", np.array([[0, 2]], np.float32))
    assert read_distance(tmp_path / "b.npy", DepthRule(holes="keep"), "max").tolist() == [[0, 1]]
    np.save(tmp_path / "c.npy", np.zeros((2, 2)))
    for holes, word in (("nearest", "4 of 4 pixels"), ("keep", "depth is 0 everywhere")):
        with pytest.raises(UsageError, match=rf"c\.npy: .*{word}.*Make"):
            read_distance(tmp_path / "c.npy", DepthRule(holes=holes), "max")


def write_bytes(path: Path) -> None:
    path.write_bytes(b"no depth at all")


def write_colours(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(path)


def write_objects(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("a.exr", write_bytes, r"a\.exr: nothing that dehaze-bench installs reads EXR.*\.npy"),
        ("a.jpg", write_bytes, r"a\.jpg: expected depth as \.png"),
        ("a.png", write_bytes, r"a\.png: expected whole depth, found 15 bytes"),
        ("a.npy", write_bytes, r"a\.npy: expected whole depth, found 15 bytes"),
        ("a.npy", write_objects, r"a\.npy: expected whole depth"),
        ("a.png", write_colours, r"a\.png: found an array of 4x4x3 uint8.*false colours"),
        ("a.npy", lambda path: np.save(path, np.zeros(5)), "expected one number per pixel"),
        ("a.npy", lambda path: np.save(path, np.zeros((2, 2), bool)), "expected one number per pixel"),
        ("gone.npy", lambda path: None, "the file is missing"),
    ],
)
def test_what_is_no_depth_is_named(name: str, write: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(UsageError, match=words):
        read_depth(tmp_path / name)


def test_rules_that_contradict_themselves_are_refused() -> None:
    for rule, words in (
        ({"kind": "invers"}, r"depth\.kind=invers is not known.*'inverse'"),
        ({"holes": "fill"}, r"depth\.holes=fill"),
        ({"scale": 0.0}, r"depth\.scale=0\.0 is no length"),
        ({"far": float("inf")}, r"depth\.far=inf"),
        ({"scale": 1.0, "far": 2.0}, r"depth\.scale and depth\.far contradict"),
        ({"scale": 1.0, "kind": "inverse"}, r"depth\.scale and depth\.kind=inverse contradict"),
    ):
        with pytest.raises(UsageError, match=words):
            DepthRule(**rule)


# Folders


def test_indoor_pictures_carry_the_names_of_reside_and_what_the_names_say(tree: Tree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert make(tree, out) == 30
    rows = rows_of(out)
    assert sorted(path.name for path in (out / "hazy").iterdir()) == sorted(row["file"] for row in rows)
    for row in rows:
        scene, copy, airlight = row["file"].removesuffix(".png").split("_")
        assert scene == row["clear"]
        assert 1 <= int(copy) <= 10
        assert float(airlight) == float(row["airlight_r"])
        assert len(airlight.split(".")[-1]) <= 5
        distance = read_distance(next(tree[1].glob(f"{scene}.*")), DepthRule(), "max")
        clear = read_image(tree[0] / f"{scene}.png").transpose(2, 0, 1)
        expected = add_haze(clear, np.exp(-float(row["beta"]) * distance), float(airlight))
        found = read_image(out / "hazy" / row["file"]).transpose(2, 0, 1)
        assert np.abs(found - expected).max() <= 0.5 / 255 + 1e-6
    assert (out / "clear" / "1.png").read_bytes() == (tree[0] / "1.png").read_bytes()
    pairs = FolderPairs("made", str(out))
    assert len(pairs) == 30
    assert pairs[0].clear is not None


def test_outdoor_pictures_are_35_jpegs_per_scene(tree: Tree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert make(tree, out, "ots", DepthRule(far=10), quality=90) == 105
    names = {path.name for path in (out / "hazy").iterdir()}
    assert {f"{i}_{a}_{b}.jpg" for i in (1, 2, 3) for a in ("0.8", "0.85", "0.9", "0.95", "1") for b in
            ("0.04", "0.06", "0.08", "0.1", "0.12", "0.16", "0.2")} == names  # fmt: skip
    with Image.open(out / "hazy" / "1_1_0.2.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (SIZE[1], SIZE[0]))
    assert {row["jpeg"] for row in rows_of(out)} == {"90"}


def test_numbers_in_names_have_five_decimals_at_most() -> None:
    assert [format_number(v) for v in (0.90179, 0.8, 1.0, 0.04, 0.99997)] == ["0.90179", "0.8", "1", "0.04", "0.99997"]


@pytest.mark.parametrize("recipe", ["its", "ridcp", "uneven"])
def test_the_same_seed_makes_the_same_bytes_on_any_number_of_threads(recipe: str, tree: Tree, tmp_path: Path) -> None:
    make(tree, tmp_path / "a", recipe, copies=3)
    synthesize(choose_recipe(recipe), *tree, tmp_path / "b", Settings(copies=3), DepthRule(), workers=3)
    make(tree, tmp_path / "c", recipe, copies=3, seed=1)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert not {row["file"] for row in rows_of(tmp_path / "a")} & {row["file"] for row in rows_of(tmp_path / "c")}


def test_an_interrupted_run_is_completed_and_only_what_lacks_is_made(tree: Tree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(tree, out, "ridcp", copies=3)
    before = contents(out)
    lost = sorted((out / "hazy").iterdir())[1]
    kept = sorted((out / "hazy").iterdir())[0]
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    (out / "haze.csv").unlink()
    assert make(tree, out, "ridcp", copies=3) == 9
    assert contents(out) == before
    assert kept.stat().st_mtime_ns == stamp


def test_a_margin_is_cut_from_both_after_depth_was_related_to_the_whole(tree: Tree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(tree, out, margin=10, copies=1)
    row = rows_of(out)[0]
    clear = read_image(out / "clear" / "1.png").transpose(2, 0, 1)
    assert clear.shape == (3, SIZE[0] - 20, SIZE[1] - 20)
    assert np.array_equal(clear, read_image(tree[0] / "1.png").transpose(2, 0, 1)[:, 10:-10, 10:-10])
    distance = read_distance(tree[1] / "1.png", DepthRule(), "max")[10:-10, 10:-10]
    expected = add_haze(clear, np.exp(-float(row["beta"]) * distance), float(row["airlight_r"]))
    assert np.abs(read_image(out / "hazy" / row["file"]).transpose(2, 0, 1) - expected).max() <= 0.5 / 255 + 1e-6


def test_underscores_in_names_need_numbers(tree: Tree, tmp_path: Path) -> None:
    for folder, suffix in zip(tree, (".png", ".png"), strict=True):
        (folder / f"1{suffix}").rename(folder / f"room_1{suffix}")
    with pytest.raises(UsageError, match=r"scene name room_1 has an underscore.*names=number"):
        make(tree, tmp_path / "out")
    make(tree, tmp_path / "out", names="number", copies=1)
    assert sorted(path.name for path in (tmp_path / "out" / "clear").iterdir()) == ["1.png", "2.png", "3.png"]
    assert [row["clear"] for row in rows_of(tmp_path / "out")] == ["2", "3", "room_1"]


def test_other_settings_or_another_content_are_not_mixed(tree: Tree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(tree, out, copies=1)
    with pytest.raises(UsageError, match=r"other settings \(copies, seed\).*another --out"):
        make(tree, out, copies=2, seed=4)
    (out / "synthesis.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        make(tree, out, copies=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="holds something else"):
        make(tree, tmp_path / "full")
    for target in (tree[0], tree[0].parent):  # the parent's clear/ is what is read
        with pytest.raises(UsageError, match="would write into"):
            make(tree, target)
    assert sorted(path.name for path in tree[0].iterdir()) == ["1.png", "2.png", "3.png"]


def test_settings_are_recorded_without_paths(tree: Tree, tmp_path: Path) -> None:
    make(tree, tmp_path / "out", copies=2, seed=5)
    text = (tmp_path / "out" / "synthesis.json").read_text()
    assert str(tmp_path) not in text
    note = json.loads(text)
    assert (note["recipe"], note["seed"], note["copies"], note["scenes"]) == ("its", 5, 2, ["1", "2", "3"])


def test_missing_and_unfit_files_are_named(tree: Tree, tmp_path: Path) -> None:
    clear, depth = tree
    np.save(depth / "3.npy", np.ones((5, 6)))
    with pytest.raises(UsageError, match=r"3\.png is 48x40 but .*3\.npy is 6x5"):
        make(tree, tmp_path / "a")
    (depth / "3.npy").unlink()
    with pytest.raises(
        UsageError, match=r"1 of 3 clear pictures have no depth\. First: .*3\.png needs 3\.png or 3\.npy"
    ):
        make(tree, tmp_path / "b")
    (depth / "3.npy").touch()
    with pytest.raises(UsageError, match=r"3\.npy: expected whole depth, found 0 bytes"):
        make(tree, tmp_path / "c")
    (depth / "3.png").touch()
    with pytest.raises(UsageError, match=r"3\.npy and 3\.png share one name"):
        make(tree, tmp_path / "d")
    with pytest.raises(UsageError, match=r"the clear folder .*none does not exist"):
        make((clear.parent / "none", depth), tmp_path / "e")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"the depth folder .*empty holds no files"):
        make((clear, tmp_path / "empty"), tmp_path / "f")
    with pytest.raises(UsageError, match="margin=20 leaves nothing"):
        make(tree_of(tree, depth), tmp_path / "g", margin=20)


def tree_of(tree: Tree, depth: Path) -> Tree:
    """Repair the depth of scene 3."""
    (depth / "3.png").unlink()
    np.save(depth / "3.npy", picture(2)[1])
    return tree


def test_settings_out_of_range_are_refused(tree: Tree, tmp_path: Path) -> None:
    for settings, words in (
        ({"seed": -1}, "seed=-1 is too small"),
        ({"copies": 0}, "copies=0 is too small"),
        ({"margin": -1}, "margin=-1"),
        ({"names": "kep"}, r"names=kep.*'keep'"),
        ({"quality": 101}, "quality=101 is no JPEG quality"),
    ):
        with pytest.raises(UsageError, match=words):
            Settings(**settings)
    with pytest.raises(UsageError, match="copies=5: recipe ots makes all its 35"):
        make(tree, tmp_path / "out", "ots", copies=5)
    with pytest.raises(UsageError, match="workers=0"):
        synthesize(RECIPES["its"], *tree, tmp_path / "out", Settings(), DepthRule(), workers=0)


# Training


def training(tree: Tree, **changes: object) -> HazeOnDepth:
    return HazeOnDepth(**{"name": "synth", "root": str(tree[0].parent), "clear": "clear", "depth": "depth", **changes})


@pytest.mark.parametrize("recipe", ["its", "ridcp", "uneven"])
def test_a_sample_is_a_pure_function_and_the_cache_changes_nothing(recipe: str, tree: Tree) -> None:
    plain, cached = training(tree, recipe=recipe), training(tree, recipe=recipe, cache_scenes=2)
    assert len(plain) == 3
    for key, index in enumerate((0, 1, 2, 0, 1)):
        one = plain.sample(index, 24, np.random.default_rng([7, key]))
        two = cached.sample(index, 24, np.random.default_rng([7, key]))
        assert one.name == two.name
        assert np.array_equal(one.hazy, two.hazy)
        assert np.array_equal(one.clear, two.clear)
        assert one.hazy.shape == one.clear.shape == (3, 24, 24)
        assert one.hazy.dtype == one.clear.dtype == np.float32
        assert one.hazy.flags.c_contiguous
        assert np.abs(one.hazy * 255 - np.rint(one.hazy * 255)).max() < 1e-4
    assert len(cached._kept) == 2


def test_every_draw_has_other_haze_over_the_right_pixels(tree: Tree) -> None:
    dataset = training(tree, beta=[1.5, 1.5])
    names = set()
    for key in range(10):
        made = dataset.sample(0, 24, np.random.default_rng(key))
        names.add(made.name)
        _, airlight, beta, top, left = made.name.split("_")
        window = np.s_[..., int(top) : int(top) + 24, int(left) : int(left) + 24]
        assert beta == "1.500"
        assert np.array_equal(made.clear, read_image(tree[0] / "1.png").transpose(2, 0, 1)[window])
        distance = read_distance(tree[1] / "1.png", DepthRule(), "max")[window]
        expected = add_haze(made.clear, np.exp(-1.5 * distance), float(airlight))
        assert np.abs(made.hazy - expected).max() < 0.5 / 255 + 6e-4  # the name has three decimals
    assert len(names) == 10


def test_jpeg_blocks_lie_as_in_the_whole_picture(tree: Tree) -> None:
    # Grey and without haze, so that chroma, which is interpolated across blocks, has no part in it.
    grey = np.random.default_rng(0).integers(0, 256, SIZE, dtype=np.uint8)
    Image.fromarray(np.repeat(grey[..., None], 3, 2)).save(tree[0] / "1.png")
    dataset = training(tree, recipe="ridcp", beta=[0, 0])
    seen = set()
    for key in range(60):
        rng = np.random.default_rng(key)
        top, left = int(rng.integers(SIZE[0] - 16 + 1)), int(rng.integers(SIZE[1] - 16 + 1))
        haze = draw_haze(dataset.recipe, rng)
        if haze.quality is None or haze.noise != "none":
            continue
        made = dataset.sample(0, 16, np.random.default_rng(key)).hazy
        whole = make_hazy(*dataset._read(0), haze, rng)
        # Up to the last block that lies wholly in the window.
        rows, columns = (top + 16) // 8 * 8 - top, (left + 16) // 8 * 8 - left
        assert np.array_equal(made[:, :rows, :columns], whole[:, top : top + rows, left : left + columns])
        assert not np.array_equal(made, dataset._read(0)[0][:, top : top + 16, left : left + 16])
        seen.add((top % 16, left % 16))
    assert len(seen) > 5


def test_the_group_choice_makes_the_training_set(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    from dehaze_bench import build

    root = tree[0].parent
    cfg = compose_run(
        ["dataset=synth", f"paths.data={root}", "dataset.clear=clear", f"dataset.depth={tree[1]}", "dataset.margin=2"]
    ).cfg
    dataset = build.dataset(cfg)
    assert isinstance(dataset, HazeOnDepth)
    assert len(dataset) == 3
    assert "3 scenes" in dataset.layout
    assert dataset.sample(1, 32, np.random.default_rng(0)).hazy.shape == (3, 32, 32)


def test_a_training_set_that_cannot_be_is_refused_at_once(tree: Tree) -> None:
    for changes, words in (
        ({"clear": "none"}, r"synth: the clear folder .*none does not exist.*dataset\.clear"),
        ({"recipe": "its2"}, r"recipe=its2.*'its'"),
        ({"recipe": "ots"}, r"synth: .*1\.png: .*depth\.scale.*dataset\.depth_x"),
        ({"margin": -1}, r"dataset\.margin=-1"),
        ({"depth_kind": "far"}, r"depth\.kind=far"),
    ):
        with pytest.raises(UsageError, match=words):
            training(tree, **changes)
    with pytest.raises(UsageError, match=r"1\.png: 48x40 pixels are left, expected at least 64x64.*at most 40"):
        training(tree).sample(0, 64, np.random.default_rng(0))


# The command


def test_the_command_makes_a_folder(tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["its", "--clear", str(tree[0]), f"--depth={tree[1]}", "--out", str(tmp_path / "out")]
    assert run([*arguments, "seed=3", "copies=2", "beta=1,1.2", "depth.holes=nearest", "--workers", "2"]) == 0
    assert "6 hazy pictures of recipe its" in capsys.readouterr().out
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 6
    assert all(1 <= float(row["beta"]) <= 1.2 for row in rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"needs one recipe, not ''.*rshaze"),
        (["itts"], r"not 'itts'.*Did you mean 'its'"),
        (["its", "ots"], "needs one recipe, not 'its ots'"),
        (["its", "--clear", "a", "--depth", "b"], "its needs --out DIR"),
        (["rshaze", "--clear", "a", "--out", "b"], "rshaze needs --cirrus DIR"),
        (["its", "--clear", "a", "--depth", "b", "--out", "c", "--cirrus", "d"], "--cirrus is of no use to recipe its"),
        (["its", "--clear", "a", "--depth", "b", "--out", "c", "sed=1"], r"no 'sed'.*'seed'"),
        (["its", "--clear", "a", "--depth", "b", "--out", "c", "seed=x"], "seed=x is not a whole number"),
        (["its", "--clear", "a", "--depth", "b", "--out", "c", "depth.far=x"], r"depth\.far=x is not a number"),
        (["its", "--clear", "a", "--depth", "b", "--out", "c", "--fast"], "Unknown option '--fast'"),
        (["its", "--clear", "a", "--depth", "b", "--out", "c", "--workers", "x"], "--workers=x is not a whole"),
        (["its", "--clear"], "--clear needs a value"),
    ],
)
def test_a_bad_command_is_answered_with_one_sentence(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(words)

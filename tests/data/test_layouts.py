from __future__ import annotations

import importlib
import inspect
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from dehaze_bench.data import FolderCrops, FolderPairs, TestPair, read_image
from dehaze_bench.data.folders import find_pairs
from dehaze_bench.data.known import CLEAR_FOLDERS, HAZY_FOLDERS, KNOWN, ROLES
from dehaze_bench.data.pairs import to_unit
from dehaze_bench.data.places import find_places
from dehaze_bench.errors import UsageError
from tests.data.trees import MARGIN, Tree, grow, picture_of, shown_in, trees

CONF = Path(__file__).resolve().parents[2] / "conf"


@cache
def _node(file: str) -> dict:
    return OmegaConf.to_container(OmegaConf.load(CONF / file), resolve=False)


def settings(file: str) -> dict:
    """Read the plain arguments of a config, without its target and root."""
    return {k: v for k, v in _node(file).items() if k not in ("_target_", "root")}


def sots_indoor(root: Path) -> FolderPairs:
    return FolderPairs(root=str(root), **settings("testset/sots_indoor.yaml"))


def its(root: Path) -> FolderCrops:
    return FolderCrops(root=str(root), **settings("dataset/its.yaml"))


@pytest.fixture
def tree(tmp_path: Path, picture) -> Path:
    """A small SOTS-indoor: clear pictures 20 px larger than the hazy ones."""
    for scene in ("1400", "1401"):
        picture(tmp_path / "SOTS/indoor/gt" / f"{scene}.png", 60, 70)
        for k in (1, 2):
            picture(tmp_path / "SOTS/indoor/hazy" / f"{scene}_{k}.png", 40, 50)
    return tmp_path


@pytest.mark.parametrize(
    "file", sorted(str(p.relative_to(CONF)) for g in ("dataset", "testset") for p in (CONF / g).glob("*.yaml"))
)
def test_configs_name_arguments_that_exist(file: str) -> None:
    assert (CONF / file).read_text().startswith("# ")
    node = OmegaConf.to_container(OmegaConf.load(CONF / file), resolve=False)
    package, _, name = node.pop("_target_").rpartition(".")
    assert package.split(".")[:2] == ["dehaze_bench", "data"]
    inspect.signature(getattr(importlib.import_module(package), name)).bind(**node)


def test_sots_is_found_paired_by_prefix_and_cut_by_ten(tree: Path) -> None:
    pairs = sots_indoor(tree)
    assert [pairs[i].name for i in range(len(pairs))] == ["1400_1", "1400_2", "1401_1", "1401_2"]
    pair = pairs[2]
    assert isinstance(pair, TestPair)
    assert pair.clear is not None
    assert pair.hazy.shape == pair.clear.shape == (3, 40, 50)
    whole = read_image(tree / "SOTS/indoor/gt/1401.png")
    assert np.array_equal(pair.clear.numpy().transpose(1, 2, 0), whole[10:-10, 10:-10])
    assert "SOTS/indoor/hazy" in pairs.layout
    assert "4 pairs, clear name = hazy name up to its first underscore" in pairs.layout


@pytest.mark.parametrize(
    ("hazy", "clear"),
    [
        ("SOTS-IN/IN", "SOTS-IN/GT"),
        ("reside-indoor/test/hazy", "reside-indoor/test/gt"),
        ("sots_indoor/hazy", "sots_indoor/clear"),
    ],
)
def test_other_folder_names_are_found(hazy: str, clear: str, tmp_path: Path, picture) -> None:
    picture(tmp_path / hazy / "1400_1.png")
    picture(tmp_path / clear / "1400_1.png")  # equal names and sizes: the ground truth is cropped already
    pairs = sots_indoor(tmp_path)
    assert len(pairs) == 1
    assert "clear name = hazy name" in pairs.layout
    assert pairs[0].clear is not None
    assert pairs[0].clear.shape == (3, 24, 32)


def test_training_crops_lie_on_each_other(tmp_path: Path, picture) -> None:
    picture(tmp_path / "ITS_v2/gt/1.png", 40, 50)
    source = tmp_path / "ITS_v2/gt/1.png"
    (tmp_path / "ITS_v2/hazy").mkdir()
    (tmp_path / "ITS_v2/hazy/1_1_0.9.png").write_bytes(source.read_bytes())
    dataset = its(tmp_path)
    assert len(dataset) == 1
    one = dataset.sample(0, 16, np.random.default_rng(1))
    again = dataset.sample(0, 16, np.random.default_rng(1))
    other = dataset.sample(0, 16, np.random.default_rng(2))
    assert one.name == "1_1_0.9"
    assert one.hazy.shape == (3, 16, 16)
    assert np.array_equal(one.hazy, one.clear)
    assert np.array_equal(one.hazy, again.hazy)
    assert not np.array_equal(one.hazy, other.hazy)
    with pytest.raises(UsageError, match=r"1_1_0\.9\.png: found 50x40 pixels, expected at least 41x41.*at most 40"):
        dataset.sample(0, 41, np.random.default_rng(0))


def test_two_absolute_folders_and_no_clear_pictures(tmp_path: Path, picture) -> None:
    picture(tmp_path / "a/x.jpg")
    picture(tmp_path / "b/x.png")
    arguments = settings("testset/pairs.yaml") | {"hazy": str(tmp_path / "a")}
    pairs = FolderPairs(root=".", **(arguments | {"clear": str(tmp_path / "b")}))
    assert pairs[0].clear is not None
    alone = FolderPairs(root=".", **(arguments | {"clear": None}))
    assert alone[0].clear is None
    assert "no clear ones" in alone.layout


def test_a_missing_root_says_where_to_point(tmp_path: Path) -> None:
    for build in (sots_indoor, its):
        with pytest.raises(UsageError, match=r"data root .*nowhere does not exist; expected .*DEHAZE_DATA=DIR"):
            build(tmp_path / "nowhere")


def test_an_unknown_layout_says_what_is_there_and_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    with pytest.raises(
        UsageError,
        match=r"no known layout under .*which holds holiday/; expected sots_indoor or SOTS/indoor.*\{gt,GT",
    ):
        sots_indoor(tmp_path)


def test_a_folder_without_clear_pictures_is_told_apart(tree: Path) -> None:
    (tree / "SOTS/indoor/gt").rename(tree / "SOTS/indoor/truth")
    with pytest.raises(UsageError, match=r"SOTS/indoor is there but has no clear folder: it holds hazy/, truth/"):
        sots_indoor(tree)


def test_a_hazy_picture_without_a_clear_one_is_named(tree: Path) -> None:
    (tree / "SOTS/indoor/gt/1401.png").unlink()
    with pytest.raises(
        UsageError, match=r"2 of 4 pictures have no clear one.*1401_1\.png needs 1401\.png.*holds 1400\.png"
    ):
        sots_indoor(tree)


def test_an_empty_folder_is_named(tree: Path) -> None:
    for path in (tree / "SOTS/indoor/hazy").iterdir():
        path.rename(path.with_suffix(".tiff"))
    with pytest.raises(UsageError, match=r"no pictures in .*hazy, which holds 1400_1\.tiff.*\.png, \.jpg"):
        sots_indoor(tree)


def test_two_files_of_one_name_are_refused(tree: Path, picture) -> None:
    picture(tree / "SOTS/indoor/gt/1400.jpg", 60, 70)
    with pytest.raises(UsageError, match=r"1400\.jpg and 1400\.png share one name"):
        sots_indoor(tree)


def test_sizes_that_do_not_fit_are_refused_when_built(tree: Path, picture) -> None:
    picture(tree / "SOTS/indoor/gt/1401.png", 60, 71)
    with pytest.raises(
        UsageError,
        match=r"1401_1\.png is 50x40 but .*1401\.png is 71x60; expected the same size, or 10 px more on each",
    ):
        sots_indoor(tree)


def test_uncropped_ground_truth_without_the_crop_rule_gets_the_hint(tree: Path) -> None:
    with pytest.raises(UsageError, match=r"uncropped ground truth: set crop=centre10"):
        FolderPairs("mine", str(tree), ["SOTS/indoor"])
    with pytest.raises(UsageError, match=r"uncropped ground truth: set crop=centre10"):
        FolderCrops("mine", str(tree), ["SOTS/indoor"])


def test_a_truncated_picture_is_found_when_it_is_read(tree: Path) -> None:
    damaged = tree / "SOTS/indoor/hazy/1400_2.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    pairs = sots_indoor(tree)
    assert pairs[0].name == "1400_1"
    with pytest.raises(UsageError, match=r"1400_2\.png: expected a whole PNG or JPEG, found 200 bytes"):
        pairs[1]


def test_unknown_rules_get_the_nearest_name(tree: Path) -> None:
    with pytest.raises(UsageError, match=r"mine: crop=center10 is not known. Did you mean 'centre10'"):
        FolderPairs("mine", str(tree), ["SOTS/indoor"], crop="center10")
    with pytest.raises(UsageError, match=r"mine: match=prefixes is not known. Did you mean 'prefix'"):
        FolderPairs("mine", str(tree), ["SOTS/indoor"], match="prefixes", crop="centre10")


def psnr(one: np.ndarray, two: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((one.astype(np.float64) - two) ** 2)))


def test_real_sots_pairs_have_the_known_psnr(shared: Path) -> None:
    pairs = sots_indoor(shared / "samples")
    found = {}
    for i in range(len(pairs)):
        pair = pairs[i]
        assert pair.clear is not None
        assert pair.hazy.shape == (3, 460, 620)
        found[pair.name] = psnr(pair.hazy.numpy(), pair.clear.numpy())
    expected = {"1400_1": 14.7852, "1400_2": 13.7121, "1401_1": 17.8650, "1401_2": 16.7268}
    assert found == pytest.approx(expected, abs=1e-4)


def test_real_its_pairs_have_the_known_psnr(shared: Path) -> None:
    dataset = its(shared / "samples")
    assert len(dataset) == 4
    pairs = FolderPairs(root=str(shared / "samples"), **settings("dataset/its.yaml"))
    found = [psnr(pairs[i].hazy.numpy(), pairs[i].clear.numpy()) for i in range(4)]
    assert found == pytest.approx([12.3738, 10.8796, 10.8990, 14.3897], abs=1e-4)
    crop = dataset.sample(0, 256, np.random.default_rng(0))
    assert 8 < psnr(to_unit(crop.hazy), to_unit(crop.clear)) < 20


def load(tree: Tree, root: Path, **changes: object) -> FolderPairs | FolderCrops:
    make = FolderCrops if tree.role == "train" else FolderPairs
    return make(root=str(root), **(settings(tree.config) | changes))


PARTS = sorted({(tree.name, tree.role) for tree in trees()})


@pytest.mark.parametrize(("name", "role"), PARTS)
def test_every_set_is_found_in_every_shape_and_paired(name: str, role: str, tmp_path: Path) -> None:
    for number, tree in enumerate(each for each in trees() if (each.name, each.role) == (name, role)):
        assert_found(tree, tmp_path / str(number))


def assert_found(tree: Tree, root: Path) -> None:
    expected = grow(root, tree)
    found = load(tree, root)
    assert found.pairs.names == expected, tree
    part = KNOWN[tree.name].part(tree.role)
    assert part is not None
    keepers = {s.keeper for s in part.shapes if s.base.lower() == tree.shape.base.lower()}
    assert any(found.layout.endswith(f"({keeper})") for keeper in keepers), (tree, found.layout)
    if found.pairs.clear is None:
        assert not part.truth
        return
    for hazy, clear in zip(found.pairs.hazy, found.pairs.clear, strict=True):
        name = shown_in(f"{clear.parent.name}/{clear.stem}") if "/" in expected[0] else clear.stem
        whole = picture_of(name, *read_image(clear).shape[:2])
        if tree.name == "sots_indoor":
            whole = whole[MARGIN:-MARGIN, MARGIN:-MARGIN]
        assert np.abs(read_image(hazy) * 255 - (0.5 * whole + 120)).mean() < 6, tree  # JPEG


@pytest.mark.parametrize("group", ["dataset", "testset"])
def test_folders_of_configs_are_known_shapes(group: str, tmp_path: Path) -> None:
    """Else the shapes of `known` would not be tried for them."""
    role = "train" if group == "dataset" else "test"
    for name, known in KNOWN.items():
        part = known.part(role)
        assert (part is not None) == (CONF / f"{group}/{name}.yaml").is_file(), name
        if part is not None:
            tree = Tree(name, role, part.shapes[-1])
            load(tree, _grown(tmp_path / name / role, tree))


def _grown(root: Path, tree: Tree) -> Path:
    grow(root, tree)
    return root


def _tree(name: str, role: str, keeper: str, whole: bool = False) -> Tree:
    part = KNOWN[name].part(role)
    assert part is not None
    return Tree(name, role, next(s for s in part.shapes if s.keeper == keeper and s.whole == whole))


def test_letter_case_hyphens_and_an_outer_folder_do_not_matter(tmp_path: Path) -> None:
    grow(tmp_path, _tree("dense_haze", "test", "c-yn"))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "dense_haze").rename(tmp_path / "datasets" / "DENSE-Haze")
    found = load(_tree("dense_haze", "test", "c-yn"), tmp_path)
    assert found.pairs.names == ["51_hazy", "52_hazy", "53_hazy", "54_hazy", "55_hazy"]
    assert "datasets/DENSE-Haze" in found.layout


def test_a_folder_of_the_users_own_is_not_second_guessed(tmp_path: Path) -> None:
    tree = _tree("its", "train", "DehazeFormer")
    grow(tmp_path, tree)
    assert len(load(tree, tmp_path)) == 4
    with pytest.raises(UsageError, match=r"its: no known layout under"):
        load(tree, tmp_path, folders=["my_its"])
    with pytest.raises(UsageError, match=r"its: no known layout under"):
        load(tree, tmp_path, hazy=["foggy"])


@pytest.mark.parametrize("name", ["nh_haze", "dense_haze", "o_haze", "i_haze"])
def test_both_families_of_splits(name: str, tmp_path: Path) -> None:
    num = {"o_haze": 45, "i_haze": 35}.get(name, 55)
    tree = _tree(name, "train", "official", whole=True)
    grow(tmp_path, tree)
    usual, challenge = (split for split, _ in KNOWN[name].splits)
    assert (usual, challenge) == (f"first{num - 5}", f"first{num - 10}")
    numbers = {
        split: [int(picture[:2]) for picture in load(tree, tmp_path, split=split).pairs.names]
        for split in (None, usual, challenge)
    }
    assert numbers[None] == numbers[usual] == [1, 2, num - 5]
    assert numbers[challenge] == [1, 2]
    config = settings(f"dataset/{name}_{challenge}.yaml")
    assert len(FolderCrops(root=str(tmp_path), **config)) == 2
    found = load(_tree(name, "test", "official", whole=True), tmp_path)
    assert [int(picture[:2]) for picture in found.pairs.names] == list(range(num - 4, num + 1))
    assert "by the split" in found.layout
    with pytest.raises(UsageError, match=rf"{name}: split=first4 is not known. Did you mean 'first"):
        load(tree, tmp_path, split="first4")


def test_a_split_of_a_set_without_splits_is_refused(tmp_path: Path) -> None:
    tree = _tree("its", "train", "FFA-Net")
    grow(tmp_path, tree)
    with pytest.raises(UsageError, match=r"its: split=first50 is not known; this set comes without named splits"):
        load(tree, tmp_path, split="first50")


def test_a_list_of_pictures_must_be_complete(tmp_path: Path) -> None:
    tree = _tree("ots", "train", "AdaIR")
    names = grow(tmp_path, tree)
    gone = next((tmp_path / tree.shape.base).rglob(f"{names[0]}.jpg"))
    gone.unlink()
    with pytest.raises(UsageError, match=rf"1 of 3 pictures of the list .*hazy_outside.txt are missing: {names[0]}"):
        load(tree, tmp_path)


def test_scenes_of_the_test_set_are_left_out_of_ots(tmp_path: Path) -> None:
    tree = _tree("ots", "train", "gUNet")
    grow(tmp_path, tree)
    with pytest.raises(UsageError, match=r"ots: exclude_test_scenes needs sots_outdoor under .*Unpack it there"):
        load(tree, tmp_path, exclude_test_scenes=True)
    grow(tmp_path, _tree("sots_outdoor", "test", "AdaIR"))
    assert len(load(tree, tmp_path)) == 4
    kept = load(tree, tmp_path, exclude_test_scenes=True)
    assert kept.pairs.names == ["0025_0.8_0.04", "0025_0.9_0.2", "0099_0.95_0.16"]
    assert isinstance(kept, FolderCrops)
    assert [kept.sample(i, 8, np.random.default_rng(0)).name for i in range(3)] == kept.pairs.names
    assert "1 pairs of 1 scenes left out, which the test set has too" in kept.layout
    its_tree = _tree("its", "train", "FFA-Net")
    grow(tmp_path, its_tree)
    with pytest.raises(UsageError, match=r"its: exclude_test_scenes is for ots"):
        load(its_tree, tmp_path, exclude_test_scenes=True)


def test_a_pattern_pairs_any_two_folders(tmp_path: Path, picture) -> None:
    for number in (1, 2):
        picture(tmp_path / f"a/foggy{number}_cam.png")
        picture(tmp_path / f"b/sunny{number}.png")
    arguments = {"name": "pairs", "root": str(tmp_path), "folders": ["."], "hazy": "a", "clear": "b"}
    found = find_pairs(**arguments, match="foggy*_cam:sunny*")
    assert found.clear is not None
    assert [path.stem for path in found.clear] == ["sunny1", "sunny2"]
    with pytest.raises(UsageError, match=r"2 of 2 pictures have no clear one .*needs cloudy1\.png"):
        find_pairs(**arguments, match="foggy*_cam:cloudy*")
    with pytest.raises(UsageError, match=r"match=foggy\* is no rule: write HAZY:CLEAR"):
        find_pairs(**arguments, match="foggy*")


def test_places_of_unknown_sets_are_none(tmp_path: Path) -> None:
    assert find_places("mine", "train", tmp_path) == []
    assert find_places("its", "test", tmp_path) == []
    assert find_places("its", "train", tmp_path / "nowhere") == []
    assert ROLES == ("train", "test")
    assert set(HAZY_FOLDERS).isdisjoint(CLEAR_FOLDERS)

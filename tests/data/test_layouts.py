from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

import dehaze_bench.data
from dehaze_bench.data import FolderCrops, FolderPairs, TestPair, read_image
from dehaze_bench.errors import UsageError

CONF = Path(__file__).resolve().parents[2] / "conf"


def settings(file: str) -> dict:
    """Read the plain arguments of a config, without its target and root."""
    node = OmegaConf.load(CONF / file)
    return {k: v for k, v in OmegaConf.to_container(node, resolve=False).items() if k not in ("_target_", "root")}


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
    assert package == "dehaze_bench.data"
    inspect.signature(getattr(dehaze_bench.data, name)).bind(**node)


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
    assert 8 < psnr(crop.hazy, crop.clear) < 20

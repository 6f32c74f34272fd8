"""HazeWorld as it is downloaded and as its script links it; REVIDE: names, partners, scenes, and what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from dehaze_bench.data.folders import Pairs, scene_in
from dehaze_bench.data.inspection_subjects import Subject
from dehaze_bench.data.video_folders import list_videos, video_of
from dehaze_bench.datasets.info import run
from dehaze_bench.errors import UsageError
from tests.data.test_layouts import load
from tests.data.trees import Tree, grow, trees

HAZEWORLD = {(tree.shape.keeper, tree.role): tree for tree in trees() if tree.name == "hazeworld"}


def test_both_shapes_are_there() -> None:
    assert set(HAZEWORLD) == {(keeper, role) for keeper in ("MAP-Net", "official") for role in ("train", "test")}


@pytest.mark.parametrize("role", ["train", "test"])
def test_the_download_gives_the_parts_that_its_mapping_says(role: str, tmp_path: Path) -> None:
    grow(tmp_path, HAZEWORLD["official", role])
    pairs = load(HAZEWORLD["official", role], tmp_path).pairs
    split = "train" if role == "train" else "val"
    assert pairs.names == [
        f"{source}_{split}_{haze}/{frame:05}"
        for source, frames in (("DAVIS/bear", 2), ("REDS/000", 1))
        for haze in ("222_0.03", "239_0.005")
        for frame in range(frames)
    ]
    assert pairs.clear is not None and len(set(pairs.clear)) == 3  # one truth for two hazes
    assert all(split in clear.parts for clear in pairs.clear)


def test_without_its_mapping_the_download_is_refused(tmp_path: Path) -> None:
    tree = HAZEWORLD["official", "test"]
    grow(tmp_path, tree)
    (tmp_path / "HazeWorld/gt/REDS/mapping_info_GT_test.txt").unlink()
    with pytest.raises(UsageError, match=r"hazeworld: .*mapping_info_GT_test\.txt cannot be read .*restore it"):
        load(tree, tmp_path)


def test_the_linked_tree_comes_first(tmp_path: Path) -> None:
    grow(tmp_path, HAZEWORLD["official", "train"])
    linked = grow(tmp_path, HAZEWORLD["MAP-Net", "train"])
    assert load(HAZEWORLD["MAP-Net", "train"], tmp_path).pairs.names == linked


@pytest.mark.parametrize("keeper", ["MAP-Net", "official"])
def test_a_missing_true_frame_is_named(keeper: str, tmp_path: Path) -> None:
    tree = HAZEWORLD[keeper, "train"]
    grow(tmp_path, tree)
    pairs = load(tree, tmp_path).pairs
    assert pairs.clear is not None
    pairs.clear[-1].unlink()
    num = {"MAP-Net": 1, "official": 2}[keeper]
    with pytest.raises(UsageError, match=rf"{num} of 6 pictures have no clear one.*First: .*needs REDS/000.*/00000"):
        load(tree, tmp_path)


@pytest.mark.parametrize(
    ("frame", "video"),
    [
        ("DAVIS/bear_239_0.005/00000", "DAVIS/bear"),
        ("Cityscapes/aachen_0000_218_0.005/00012", "Cityscapes/aachen_0000"),
        ("UA-DETRAC/MVI_20011/img00001", "UA-DETRAC/MVI_20011"),
        ("C001/00000", "C001"),
        ("1400_1", ""),
    ],
)
def test_the_true_video_of_a_frame(frame: str, video: str) -> None:
    assert video_of(frame) == video
    assert scene_in(frame, "truth") == (video or "1400")


def test_videos_are_listed_in_order_with_and_without_sources(tmp_path: Path) -> None:
    for folder in ("b/two", "b/one", "a/three"):
        (tmp_path / folder).mkdir(parents=True)
    assert list(list_videos("mine", [tmp_path], 2)) == ["a/three", "b/one", "b/two"]
    assert list(list_videos("mine", [tmp_path], 1)) == ["a", "b"]


def test_one_video_under_several_hazes_is_one_scene(tmp_path: Path) -> None:
    tree: Tree = HAZEWORLD["MAP-Net", "train"]
    grow(tmp_path, tree)
    pairs: Pairs = load(tree, tmp_path).pairs
    assert set(Subject("hazeworld", "train", pairs).scenes) == {"DAVIS/bear", "REDS/000"}


def test_info_says_that_no_count_is_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grow(tmp_path, HAZEWORLD["MAP-Net", "train"])
    assert run(["hazeworld", "--root", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "6 hazy and 6 clear; no published count is known" in text
    assert "as published" not in text

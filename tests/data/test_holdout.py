"""What is held out for the selection of a checkpoint: the last pictures, and no scene on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dehaze_bench.data import FolderCrops
from dehaze_bench.data.holdout import hold_out
from dehaze_bench.data.loader import TrainingSet
from dehaze_bench.data.pairs import Sample
from dehaze_bench.errors import UsageError
from tests.data.trees import save


def names_of(dataset: TrainingSet) -> list[str]:
    return [dataset.sample(i, 16, np.random.default_rng(0)).name for i in range(len(dataset))]


@pytest.fixture
def its(tmp_path: Path) -> Path:
    """Three hazy pictures each of four scenes, named as in ITS."""
    for scene in (1, 2, 10, 11):
        picture = np.full((24, 24, 3), 10 * scene, np.uint8)
        save(tmp_path / f"clear/{scene}.png", picture)
        for k in (1, 2, 3):
            save(tmp_path / f"hazy/{scene}_{k}_0.9.png", picture)
    return tmp_path


@pytest.mark.parametrize(("num", "left"), [(1, 9), (3, 9), (4, 6), (9, 3)])
def test_no_scene_is_on_both_sides(its: Path, num: int, left: int) -> None:
    dataset = FolderCrops("mine", str(its))
    kept, pairs = hold_out(dataset, num, 16, 0)
    trained, held = names_of(kept), [pair.name for pair in pairs]
    assert (len(trained), held) == (left, names_of(dataset)[-num:])
    assert not {name.split("_")[0] for name in trained} & {name.split("_")[0] for name in held}


class Listed:
    """Pictures that are named by their place; their scenes may come in any order."""

    layout = ""

    def __init__(self, scenes: str) -> None:
        self.scene_names = list(scenes)

    def __len__(self) -> int:
        return len(self.scene_names)

    def sample(self, index: int, size: int, rng: np.random.Generator, edge_decay: float = 0.0) -> Sample:
        picture = np.zeros((3, size, size), np.uint8)
        return Sample(str(index), picture, picture)


def test_scenes_in_any_order() -> None:
    kept, pairs = hold_out(Listed("abcabc"), 1, 16, 0)
    assert names_of(kept) == ["0", "1", "3", "4"]
    assert [pair.name for pair in pairs] == ["5"]


@pytest.mark.parametrize(("scenes", "num", "words"), [("abcc", 4, "4 images"), ("aaaa", 1, "same scenes")])
def test_something_must_be_left(scenes: str, num: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        hold_out(Listed(scenes), num, 16, 0)

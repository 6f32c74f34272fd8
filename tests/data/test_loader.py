from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dehaze_bench.data import Batch, DeadLeaves, FolderCrops, Sample, batches
from dehaze_bench.data.loader import augment
from dehaze_bench.errors import UsageError

LEAVES = DeadLeaves(scenes=10, canvas=(64, 64))


def load(
    start: int = 0, stop: int = 5, num_workers: int = 0, seed: int = 3, kinds: tuple[str, ...] = ("flip", "rot90")
) -> list[Batch]:
    return list(
        batches(LEAVES, seed=seed, start=start, stop=stop, batch=3, crop=24, augment=kinds, num_workers=num_workers)
    )


def assert_same(one: list[Batch], two: list[Batch]) -> None:
    assert [b.step for b in one] == [b.step for b in two]
    for a, b in zip(one, two, strict=True):
        assert a.names == b.names
        assert torch.equal(a.hazy_BCHW, b.hazy_BCHW)
        assert torch.equal(a.clear_BCHW, b.clear_BCHW)


def test_shapes_and_steps() -> None:
    made = load()
    assert [b.step for b in made] == [0, 1, 2, 3, 4]
    assert made[0].hazy_BCHW.shape == made[0].clear_BCHW.shape == (3, 3, 24, 24)
    assert made[0].hazy_BCHW.dtype == torch.float32
    assert len(made[0].names) == 3
    assert all(b.wait > 0 for b in made)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_any_number_of_workers_makes_the_same_batches(num_workers: int) -> None:
    assert_same(load(), load(num_workers=num_workers))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resume_equals_the_tail(num_workers: int) -> None:
    assert_same(load()[3:], load(start=3, num_workers=num_workers))


def test_a_scene_that_comes_again_is_seen_differently_and_seeds_differ() -> None:
    made = load(stop=20)
    names = [name for batch in made for name in batch.names]
    scenes = {name.split("_")[1] for name in names}
    assert len(scenes) == 10
    assert len(set(names)) == len(names) == 60
    assert not torch.equal(load(seed=3)[0].clear_BCHW, load(seed=4)[0].clear_BCHW)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_global_generators_are_left_alone(num_workers: int) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    load(stop=2, num_workers=num_workers)
    assert torch.equal(torch.rand(3), expected)


def test_augmentation_moves_both_pictures_alike() -> None:
    seen = set()
    for key in range(64):
        picture = np.arange(3 * 4 * 4, dtype=np.float32).reshape(3, 4, 4)
        moved = augment(Sample("a", picture, picture + 100), ("flip", "rot90"), np.random.default_rng(key))
        assert np.array_equal(moved.clear, moved.hazy + 100)
        assert np.array_equal(np.sort(moved.hazy, axis=None), np.sort(picture, axis=None))
        seen.add(moved.hazy.tobytes())
    assert len(seen) == 8  # the eight symmetries of the square


def test_flip_alone_is_left_to_right_half_of_the_time() -> None:
    picture = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    flipped = 0
    for key in range(200):
        moved = augment(Sample("a", picture, picture), ("flip",), np.random.default_rng(key)).hazy
        assert np.array_equal(moved, picture) or np.array_equal(moved, picture[..., ::-1])
        flipped += not np.array_equal(moved, picture)
    assert 70 < flipped < 130


def test_no_augmentation_leaves_the_sample() -> None:
    made = load(stop=1, kinds=())[0]
    rng = np.random.default_rng([3, 0, 0])
    from dehaze_bench.data import indices

    expected = LEAVES.sample(indices(0, 3, 3, 10)[0], 24, rng)
    assert made.names[0] == expected.name
    assert np.array_equal(made.hazy_BCHW[0].numpy(), expected.hazy)


def test_an_unknown_augmentation_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(UsageError, match=r"'flop'.*Did you mean 'flip'"):
        batches(LEAVES, seed=0, start=0, stop=1, batch=1, crop=8, augment=["flop"])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_file_arrives_as_one_message(num_workers: int, tmp_path: Path, picture) -> None:
    for name in ("1", "2"):
        picture(tmp_path / "hazy" / f"{name}.png", 32, 32)
        picture(tmp_path / "gt" / f"{name}.png", 32, 32)
    dataset = FolderCrops("pairs", str(tmp_path))
    damaged = tmp_path / "gt" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:300])
    with pytest.raises(UsageError) as caught:
        list(batches(dataset, seed=0, start=0, stop=4, batch=2, crop=16, num_workers=num_workers))
    assert str(damaged) in str(caught.value)
    assert "Traceback" not in str(caught.value)

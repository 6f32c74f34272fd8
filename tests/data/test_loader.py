from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from dehaze_bench.data import Batch, DeadLeaves, FolderCrops, Sample, batches, indices, read_image
from dehaze_bench.data.augmentation import augment
from dehaze_bench.data.holdout import hold_out
from dehaze_bench.data.loader_device import _as_unit, deliver
from dehaze_bench.data.loader_reading import Items, read_here
from dehaze_bench.data.pairs import to_unit
from dehaze_bench.data.store_making import pack
from dehaze_bench.errors import UsageError
from tests.data.test_store import draw

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


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Seven pairs in two folders."""
    for scene in range(7):
        draw(tmp_path / f"set/gt/{scene}.png", 40, 52, scene)
        draw(tmp_path / f"set/hazy/{scene}_1.png", 40, 52, 50 + scene)
    return tmp_path / "set"


def packed(folders: Path) -> FolderCrops:
    pairs = FolderCrops("mine", str(folders)).pairs
    target = folders.parent / "copy"
    pack("mine", target, folders, pairs.layout, None, pairs.names, pairs.hazy, pairs.clear, keep_jpeg=False)
    return FolderCrops("mine", str(target))


def test_8_bit_levels_become_float32_exactly() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    exact = (levels.astype(np.float64) / 255).astype(np.float32)
    assert np.array_equal(to_unit(levels), levels.astype(np.float32) / np.float32(255))
    assert np.array_equal(to_unit(levels), exact)  # rounded once
    turned = np.empty((16, 16), np.float32)
    assert np.array_equal(to_unit(levels.T[::-1], out=turned), exact.T[::-1])
    assert to_unit(exact) is exact
    assert torch.equal(_as_unit(torch.from_numpy(levels)), torch.from_numpy(exact))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_8_bit_levels_become_the_same_float32_on_a_gpu() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(_as_unit(levels.cuda()).cpu(), _as_unit(levels))


@pytest.mark.parametrize("source", ["files", "packed"])
@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_pictures_are_those_of_the_plain_recipe_whoever_reads_them(
    source: str, num_workers: int, world: int, folders: Path
) -> None:
    """Decode, crop, divide by 255, flip and turn, written out here: to the bit what any workers and ranks deliver."""
    dataset = FolderCrops("mine", str(folders)) if source == "files" else packed(folders)
    common = {"seed": 9, "start": 2, "stop": 6, "batch": 5, "crop": 24, "augment": ("flip", "rot90")}
    ranks = [list(batches(dataset, **common, num_workers=num_workers, rank=rank, world=world)) for rank in range(world)]
    for step, parts in zip(range(2, 6), zip(*ranks, strict=True), strict=True):
        chosen = indices(step, 9, 5, 7)
        for of, folder, ending in (("hazy_BCHW", "hazy", "_1"), ("clear_BCHW", "gt", "")):
            found = torch.cat([getattr(part, of) for part in parts])
            assert found.dtype == torch.float32 and all(getattr(part, of).is_contiguous() for part in parts)
            for position, index in enumerate(chosen):
                rng = np.random.default_rng([9, step, position])
                whole = read_image(folders / folder / f"{index}{ending}.png").transpose(2, 0, 1)
                top, left = int(rng.integers(40 - 24 + 1)), int(rng.integers(52 - 24 + 1))
                picture = whole[:, top : top + 24, left : left + 24]
                picture = picture[..., ::-1] if rng.random() < 0.5 else picture
                expected = np.rot90(picture, int(rng.integers(4)), (1, 2))
                assert np.array_equal(found[position].numpy(), expected)
        assert [name for part in parts for name in part.names] == [f"{index}_1" for index in chosen]


def test_sets_that_make_float_pictures_are_not_rounded() -> None:
    made = load(stop=3, num_workers=1, kinds=())
    for step, batch in enumerate(made):
        for position, index in enumerate(indices(step, 3, 3, 10)):
            expected = LEAVES.sample(index, 24, np.random.default_rng([3, step, position]))
            assert np.array_equal(batch.hazy_BCHW[position].numpy(), expected.hazy)
            assert np.array_equal(batch.clear_BCHW[position].numpy(), expected.clear)


def test_rows_of_a_packed_copy_are_read_by_threads_and_files_by_processes(folders: Path) -> None:
    files, copy = FolderCrops("mine", str(folders)), packed(folders)
    assert not files.reads_rows and copy.reads_rows
    assert hold_out(copy, 1, 16, 0)[0].reads_rows
    assert copy.scene_names == files.scene_names == list("0123456")
    for dataset, processes in ((files, 2), (copy, 0)):
        made = batches(dataset, seed=0, start=0, stop=9, batch=2, crop=16, num_workers=2)
        next(made)
        named = [thread for thread in threading.enumerate() if thread.name.startswith("loader")]
        assert len(multiprocessing.active_children()) == processes
        assert bool(named) == (processes == 0)
        made.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader")]
        assert not multiprocessing.active_children()


def test_a_damaged_copy_arrives_as_one_message_from_a_thread(folders: Path) -> None:
    dataset = packed(folders)
    shard = folders.parent / "copy/shard-00000.safetensors"
    save_file({"else": np.zeros(3, np.uint8)}, shard)
    with pytest.raises(UsageError, match=r"shard-00000\.safetensors is damaged"):
        list(batches(dataset, seed=0, start=0, stop=9, batch=2, crop=16, num_workers=2))


class Slow:
    """Scenes that take a while to make, or fail from some step on."""

    def __init__(self, seconds: float, fails_at: int | None = None) -> None:
        self.seconds, self.fails_at, self.made = seconds, fails_at, 0

    reads_rows = True  # read in threads of this process, so that `made` counts

    def __len__(self) -> int:
        return 4

    def sample(self, index: int, size: int, rng: np.random.Generator) -> Sample:
        if self.fails_at is not None and self.made >= self.fails_at:
            raise UsageError("this one is damaged")
        self.made += 1
        time.sleep(self.seconds)
        picture = np.full((3, size, size), self.made, np.uint8)
        return Sample(str(self.made), picture, picture)


def ahead(dataset: Slow, steps: int) -> Iterator[Batch]:
    """The way to a GPU, on the CPU: a thread that has the next batch ready."""
    items = Items(dataset, seed=0, crop=8, kinds=(), batch=1, positions=range(1))
    return deliver(read_here(items, range(steps)), torch.device("cpu"), ahead=True)


def test_one_batch_is_prepared_while_the_last_one_is_used() -> None:
    dataset = Slow(0.0)
    made = ahead(dataset, 6)
    for step in range(6):
        batch = next(made)
        assert (batch.step, batch.names) == (step, [str(step + 1)])
        assert torch.equal(batch.hazy_BCHW, torch.full((1, 3, 8, 8), (step + 1) / 255))
        deadline = time.monotonic() + 10
        while dataset.made < min(step + 2, 6) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert dataset.made == min(step + 2, 6), "one ahead, and no more"
    assert list(made) == []


def test_what_fails_while_it_is_prepared_is_raised_in_its_turn() -> None:
    made = ahead(Slow(0.0, fails_at=2), 6)
    assert [next(made).step, next(made).step] == [0, 1]
    with pytest.raises(UsageError, match="this one is damaged"):
        next(made)
    assert not [thread for thread in threading.enumerate() if thread.name == "loader to device"]


def test_a_loop_that_ends_early_ends_the_thread() -> None:
    made = ahead(Slow(0.0), 100)
    next(made)
    made.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "loader to device"]


def test_the_wait_is_what_the_loop_stood_still() -> None:
    """A loop slower than the data waits for nothing once it runs; one that does nothing waits for all of it."""
    slow_loop, slow_data = [], []
    for batch in ahead(Slow(0.05), 4):
        slow_loop.append(batch.wait)
        time.sleep(0.25)
    for batch in ahead(Slow(0.08), 4):
        slow_data.append(batch.wait)
    for batch in batches(Slow(0.08), seed=0, start=0, stop=3, batch=1, crop=8):
        slow_data.append(batch.wait)
    assert slow_loop[0] > 0.04
    assert np.median(slow_loop[1:]) < 0.03
    assert min(slow_data) > 0.04

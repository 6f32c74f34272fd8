"""Batches of training crops, the same for any number of worker processes and from any starting step.

Item i of step t draws everything random (crop, haze, augmentation) from `default_rng([seed, t, i])`; the
torch and NumPy global generators are neither read nor moved. Shapes: B batch, C colour, H and W picture.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from dehaze_bench.data.pairs import Sample
from dehaze_bench.data.sampler import indices
from dehaze_bench.errors import BenchError, UsageError, nearest

AUGMENTATIONS = ("flip", "rot90")
_Item = tuple[int, int, int]  # step, position in the batch, index into the data set


class TrainingSet(Protocol):
    """What the loader needs of a data set; `sample` must be a pure function of its arguments."""

    def __len__(self) -> int: ...

    def sample(self, index: int, size: int, rng: np.random.Generator) -> Sample: ...


@dataclass(frozen=True)
class Batch:
    """One training batch; `wait` is how long, in seconds, the loop stood still for it."""

    step: int
    names: list[str]
    hazy_BCHW: torch.Tensor
    clear_BCHW: torch.Tensor
    wait: float


def augment(sample: Sample, kinds: Sequence[str], rng: np.random.Generator) -> Sample:
    """Apply one random symmetry to both: "flip" left to right, "rot90" by 0 to 3 quarter turns."""
    hazy, clear = sample.hazy, sample.clear
    if "flip" in kinds and rng.random() < 0.5:
        hazy, clear = hazy[..., ::-1], clear[..., ::-1]
    if "rot90" in kinds:
        turns = int(rng.integers(4))
        hazy, clear = np.rot90(hazy, turns, (1, 2)), np.rot90(clear, turns, (1, 2))
    return Sample(sample.name, np.ascontiguousarray(hazy), np.ascontiguousarray(clear))


def batches(
    dataset: TrainingSet,
    *,
    seed: int,
    start: int,
    stop: int,
    batch: int,
    crop: int,
    augment: Sequence[str] = (),
    num_workers: int = 0,
) -> Iterator[Batch]:
    """Yield the batches of steps `start` to `stop` - 1.

    With workers, each makes whole batches two ahead of the loop, on one thread. A `BenchError` in a worker
    arrives as it was raised, without a worker's traceback in its text. Raises UsageError for an augmentation
    that is not known.
    """
    for kind in augment:
        if kind not in AUGMENTATIONS:
            raise UsageError(f"augmentation '{kind}' is not known. {nearest(kind, AUGMENTATIONS)}")
    return _iterate(_Items(dataset, seed, crop, tuple(augment)), seed, start, stop, batch, num_workers)


def _iterate(items: _Items, seed: int, start: int, stop: int, batch: int, num_workers: int) -> Iterator[Batch]:
    loader = DataLoader(
        items,
        batch_sampler=_Steps(seed, start, stop, batch, len(items)),
        num_workers=num_workers,
        collate_fn=_collate,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # its own: the loader must not draw from the global one
        prefetch_factor=2 if num_workers else None,
    )
    iterator = iter(loader)
    try:
        for step in range(start, stop):
            asked = time.perf_counter()
            made: tuple[list[str], torch.Tensor, torch.Tensor] | BenchError = next(iterator)
            if isinstance(made, BenchError):
                raise made
            names, hazy_BCHW, clear_BCHW = made
            yield Batch(step, names, hazy_BCHW, clear_BCHW, wait=time.perf_counter() - asked)
    finally:
        del iterator  # ends the workers now; left to a traceback and the garbage collector, that takes 5 s


class _Steps:
    """The batch sampler: the items of each step, lazily."""

    def __init__(self, seed: int, start: int, stop: int, batch: int, num: int) -> None:
        self.seed, self.start, self.stop, self.batch, self.num = seed, start, stop, batch, num

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[_Item]]:
        for step in range(self.start, self.stop):
            chosen = indices(step, self.seed, self.batch, self.num)
            yield [(step, position, index) for position, index in enumerate(chosen)]


class _Items(Dataset[Sample | BenchError]):
    """Item (step, position, index) of a data set, with the generator that belongs to it."""

    def __init__(self, dataset: TrainingSet, seed: int, crop: int, kinds: tuple[str, ...]) -> None:
        self.dataset, self.seed, self.crop, self.kinds = dataset, seed, crop, kinds

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: _Item) -> Sample | BenchError:
        step, position, index = item
        rng = np.random.default_rng([self.seed, step, position])
        try:
            return augment(self.dataset.sample(index, self.crop, rng), self.kinds, rng)
        except BenchError as error:
            return error


def _collate(samples: list[Sample | BenchError]) -> tuple[list[str], torch.Tensor, torch.Tensor] | BenchError:
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, BenchError):
            return sample
        good.append(sample)
    hazy_BCHW = torch.from_numpy(np.stack([sample.hazy for sample in good]))
    clear_BCHW = torch.from_numpy(np.stack([sample.clear for sample in good]))
    return [sample.name for sample in good], hazy_BCHW, clear_BCHW


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)

"""Reading whole batches in the order of the steps: here, in threads or in processes ahead of the loop.

Item i of step t draws everything random (crop, haze, augmentation) from `default_rng([seed, t, i])`, so who reads it
does not matter; the torch and NumPy global generators are neither read nor moved. 8-bit pictures stay uint8 until they
are where they are used: what crosses a process border or a bus is a quarter.
"""

from __future__ import annotations

import itertools
import signal
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from dehaze_bench.data.augmentation import Mix, augment, draw_mix
from dehaze_bench.data.pairs import Sample, to_unit
from dehaze_bench.data.sampler import indices
from dehaze_bench.data.veils import Veils, gather
from dehaze_bench.errors import BenchError

GRACE = 30  # seconds that a worker process goes on after SIGTERM


class TrainingSet(Protocol):
    """What the loader needs of a data set; `sample` must be a pure function of its arguments.

    Two attributes may be there: `reads_rows`, where a sample costs no more than copying a few rows, so that threads
    serve it better than processes; and `draw`, a method like `sample` whose haze may be left to the device.
    """

    def __len__(self) -> int: ...

    def sample(self, index: int, size: int, rng: np.random.Generator, edge_decay: float = 0.0) -> Sample: ...


@dataclass(frozen=True)
class Loaded:
    """One batch as it was read: `pixels` (2, N, ...) hazy and clear, uint8 levels or float32 in [0, 1].

    With a `mix`, the N pictures are the items of this process and after them what they are mixed with; `partners`
    says which.
    """

    step: int
    names: list[str]
    pixels: torch.Tensor
    veils: Veils | None
    share: float | None = None
    partners: tuple[int, ...] = ()


@dataclass(frozen=True)
class Items(Dataset["Loaded | BenchError"]):
    """The batches of a run by step; `positions` are those of this process in the global batch of `batch` items.

    as_unit: float32 in [0, 1] is made at once. pinned: into page-locked memory, from which a GPU copies by itself.
    """

    dataset: TrainingSet
    seed: int
    crop: int
    kinds: tuple[str, ...]
    batch: int
    positions: range
    edge_decay: float = 0.0
    mixup: float | None = None
    as_unit: bool = False
    pinned: bool = False

    def __getitem__(self, step: int) -> Loaded | BenchError:
        """Return the batch of a step, or the error that says which file cannot be read."""
        chosen = indices(step, self.seed, self.batch, len(self.dataset))
        mix = draw_mix(self.seed, step, self.batch, self.mixup)
        positions = self._with_partners(mix)
        try:
            samples = [self._read(step, position, chosen[position]) for position in positions]
        except BenchError as error:
            return error
        names = [sample.name for sample in samples[: len(self.positions)]]
        pixels = self._stack(samples)
        if mix is None:
            return Loaded(step, names, pixels, gather(samples))
        partners = tuple(positions.index(mix.partners[position]) for position in self.positions)
        return Loaded(step, names, pixels, gather(samples), mix.share, partners)

    def _with_partners(self, mix: Mix | None) -> list[int]:
        own = list(self.positions)
        wanted = [mix.partners[position] for position in own] if mix is not None else []
        return own + [position for position in wanted if position not in self.positions]

    def _read(self, step: int, position: int, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, step, position])
        make = getattr(self.dataset, "draw", None) or self.dataset.sample
        edges = (self.edge_decay,) if self.edge_decay else ()
        return augment(make(index, self.crop, rng, *edges), self.kinds, rng)

    def _stack(self, samples: Sequence[Sample]) -> torch.Tensor:
        first = samples[0].clear
        in_levels = first.dtype == np.uint8
        dtype = torch.uint8 if in_levels and not self.as_unit else torch.float32
        pixels = torch.empty((2, len(samples), *first.shape), dtype=dtype, pin_memory=self.pinned)
        slots = pixels.numpy()
        for number, sample in enumerate(samples):
            for slot, picture in ((slots[0, number], sample.hazy), (slots[1, number], sample.clear)):
                if self.as_unit:
                    to_unit(picture, out=slot)
                else:
                    slot[...] = picture
        return pixels


def read_here(items: Items, steps: range) -> Generator[Loaded]:
    """Read each batch when it is asked for."""
    for step in steps:
        yield _checked(items[step])


def read_in_threads(items: Items, steps: range, num: int) -> Generator[Loaded]:
    """Read in threads, two batches per thread ahead: for sets whose samples are copies, which run beside Python."""
    pool = ThreadPoolExecutor(num, thread_name_prefix="loader")
    left = iter(steps)
    ahead: deque[Future[Loaded | BenchError]] = deque()
    try:
        ahead += [pool.submit(items.__getitem__, step) for step in itertools.islice(left, 2 * num)]
        while ahead:
            first = ahead.popleft()
            made = first.result()
            ahead += [pool.submit(items.__getitem__, step) for step in itertools.islice(left, 1)]
            yield _checked(made)
    finally:
        pool.shutdown(cancel_futures=True)


def read_in_processes(items: Items, steps: range, num: int) -> Generator[Loaded]:
    """Read in processes, two batches per process ahead, each on one thread; a batch crosses in one shared block."""
    loader = DataLoader(
        items,
        batch_size=None,
        sampler=steps,
        num_workers=num,
        collate_fn=_unchanged,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # its own: the loader must not draw from the global one
        prefetch_factor=2,
    )
    iterator = iter(loader)
    try:
        for made in iterator:
            yield _checked(made)
    finally:
        del iterator  # ends the workers now; left to a traceback and the garbage collector, that takes 5 s


def _checked(made: Loaded | BenchError) -> Loaded:
    if isinstance(made, BenchError):
        raise made
    return made


def _unchanged(made: Any) -> Any:
    return made


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)
    # Ctrl-C and a scheduler's signals reach every process. The loop finishes its step, saves, and ends its workers; one
    # that died at once would take that from it. A worker that nobody ends is gone after `GRACE`.
    if hasattr(signal, "SIGUSR1"):
        for number in (signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))

"""Batches of training crops, the same for any number of workers or processes and from any starting step.

Who reads them depends on what a sample costs. Pictures that must be decoded, and synthetic scenes, are made by worker
processes. Of a packed copy a crop is a copy of some rows: there the border between processes costs more than the
reading, so the workers are threads (benchmarks/loader.py measures both). Shapes: B batch, C colour, H and W picture.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import torch

from dehaze_bench.data.augmentation import AUGMENTATIONS
from dehaze_bench.data.loader_device import Batch, deliver
from dehaze_bench.data.loader_reading import (
    Items,
    Loaded,
    TrainingSet,
    read_here,
    read_in_processes,
    read_in_threads,
)
from dehaze_bench.data.sampler import positions
from dehaze_bench.errors import UsageError, nearest

__all__ = ["Batch", "TrainingSet", "batches"]


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
    rank: int = 0,
    world: int = 1,
    edge_decay: float = 0.0,
    mixup: float | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """Yield the batches of steps `start` to `stop` - 1; of each, the share of process `rank` of `world`.

    `batch` counts the images of all processes: an item keeps its position in the global batch whoever loads it.
    With workers, each makes whole batches two ahead of the loop, on one thread. A `BenchError` in a worker
    arrives as it was raised, without a worker's traceback in its text.

    Args:
        augment: "flip" and "rot90", drawn for each pair.
        edge_decay: how much more often crops lie at the border of a picture, as in `augmentation.place_crop`.
        mixup: parameter of the Beta distribution by which half of the batches are mixed; None for no mixing.
        device: where the batches are wanted. To a GPU the next one is copied while the last one is used.

    Raises UsageError for an augmentation that is not known, and for a batch that the processes cannot share.
    """
    for kind in augment:
        if kind not in AUGMENTATIONS:
            raise UsageError(f"augmentation '{kind}' is not known. {nearest(kind, AUGMENTATIONS)}")
    if batch < world:
        raise UsageError(f"A batch of {batch} cannot be shared by {world} processes: start at most {batch}.")
    device = torch.device(device)
    in_threads = bool(num_workers and getattr(dataset, "reads_rows", False))
    in_processes = bool(num_workers and not in_threads)
    on_gpu = device.type == "cuda"
    items = Items(
        dataset,
        seed,
        crop,
        tuple(augment),
        batch,
        positions(batch, rank, world),
        edge_decay,
        mixup,
        as_unit=not (in_processes or on_gpu),
        pinned=on_gpu and not in_processes,
    )
    steps = range(start, stop)
    loaded: Generator[Loaded]
    if in_threads:
        loaded = read_in_threads(items, steps, num_workers)
    elif in_processes:
        loaded = read_in_processes(items, steps, num_workers)
    else:
        loaded = read_here(items, steps)
    return deliver(loaded, device, ahead=on_gpu and num_workers > 0)

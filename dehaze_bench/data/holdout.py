"""Hold out the last scenes of a training set, so that a checkpoint can be selected without touching a test set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dehaze_bench.data.loader import TrainingSet
from dehaze_bench.data.pairs import Sample, TestPair, to_unit
from dehaze_bench.errors import UsageError


@dataclass(frozen=True)
class Kept:
    """The first `count` scenes of a training set."""

    dataset: TrainingSet
    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def reads_rows(self) -> bool:
        return bool(getattr(self.dataset, "reads_rows", False))

    @property
    def draw(self) -> Any:
        return getattr(self.dataset, "draw", None)

    def sample(self, index: int, size: int, rng: np.random.Generator, edge_decay: float = 0.0) -> Sample:
        return self.dataset.sample(index, size, rng, *((edge_decay,) if edge_decay else ()))


def hold_out(dataset: TrainingSet, num: int, size: int, seed: int) -> tuple[TrainingSet, list[TestPair]]:
    """Return (what remains for training, `num` validation pairs of `size` pixels from the last scenes).

    Each pair is a pure function of (data set, seed, index). Raises `UsageError` where nothing would remain.
    """
    if num == 0:
        return dataset, []
    remaining = len(dataset) - num
    if remaining < 1:
        raise UsageError(
            f"train.val_images={num} leaves nothing to train on: the training set has {len(dataset)} images."
        )
    pairs = []
    for index in range(remaining, len(dataset)):
        made = dataset.sample(index, size, np.random.default_rng([seed, index]))
        pairs.append(TestPair(made.name, _to_planes(made.hazy), _to_planes(made.clear)))
    return Kept(dataset, remaining), pairs


def _to_planes(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(to_unit(picture)))

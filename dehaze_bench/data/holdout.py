"""Hold out the last pictures of a training set, so that a checkpoint can be selected without touching a test set.

Hazy pictures of one scene (ten or more in ITS and OTS, the clips of a video) are never on both sides: where a training
set says which scene each picture shows, what shares one with a held-out picture is not trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dehaze_bench.data.loader import TrainingSet
from dehaze_bench.data.pairs import Sample, TestPair, to_unit
from dehaze_bench.errors import UsageError


@dataclass(frozen=True)
class Kept:
    """The pictures `indices` of a training set."""

    dataset: TrainingSet
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def reads_rows(self) -> bool:
        return bool(getattr(self.dataset, "reads_rows", False))

    @property
    def draw(self) -> Any:
        return getattr(self.dataset, "draw", None)

    def sample(self, index: int, size: int, rng: np.random.Generator, edge_decay: float = 0.0) -> Sample:
        return self.dataset.sample(self.indices[index], size, rng, *((edge_decay,) if edge_decay else ()))


def hold_out(dataset: TrainingSet, num: int, size: int, seed: int) -> tuple[TrainingSet, list[TestPair]]:
    """Return (what remains for training, `num` validation pairs of `size` pixels from the last pictures).

    Each pair is a pure function of (data set, seed, index). `dataset.scene_names`, where there is one, has a name per
    picture. Raises `UsageError` where nothing would remain.
    """
    if num == 0:
        return dataset, []
    first = len(dataset) - num
    remaining = _others(dataset, first)
    if not remaining:
        why = ", which show the same scenes" if first > 0 else ""
        raise UsageError(
            f"train.val_images={num} leaves nothing to train on: the training set has {len(dataset)} images{why}."
        )
    pairs = []
    for index in range(first, len(dataset)):
        made = dataset.sample(index, size, np.random.default_rng([seed, index]))
        pairs.append(TestPair(made.name, _to_planes(made.hazy), _to_planes(made.clear)))
    return Kept(dataset, remaining), pairs


def _others(dataset: TrainingSet, first: int) -> Sequence[int]:
    """Return the pictures before `first` that share no scene with those from there on."""
    before = range(max(first, 0))
    scenes: Sequence[str] | None = getattr(dataset, "scene_names", None)
    if scenes is None:
        return before
    held = set(scenes[len(before) :])
    kept = [index for index in before if scenes[index] not in held]
    return before if len(kept) == len(before) else kept


def _to_planes(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(to_unit(picture)))

"""Which items make up batch t: a pure function, so that a resume needs one integer and no state is saved."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# NumPy seeds [s, e] and [s, e, 0] alike; a third word that no batch position reaches keeps these streams
# apart.
_PERMUTATION_KEY = 0x5A3B1E70


def indices(step: int, seed: int, batch: int, num: int) -> list[int]:
    """Return the `batch` item indices of step `step` (from 0) over a data set of `num` items.

    Items are visited epoch by epoch; the order of an epoch is a permutation keyed by (seed, epoch). Batches
    straddle epochs, so no item is dropped and `batch` may exceed `num`. Raises ValueError for a negative step
    or seed, or an empty batch or set.
    """
    if step < 0 or seed < 0 or batch < 1 or num < 1:
        raise ValueError(f"need step, seed >= 0 and batch, num >= 1; got {step=}, {seed=}, {batch=}, {num=}")
    return [
        int(_permutation(seed, position // num, num)[position % num])
        for position in range(step * batch, (step + 1) * batch)
    ]


def positions(batch: int, rank: int = 0, world: int = 1) -> range:
    """Return the positions of the global batch that process `rank` of `world` loads: together each once, in order.

    The shares differ by one item at most; with more processes than items some are empty.
    """
    return range(rank * batch // world, (rank + 1) * batch // world)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, _PERMUTATION_KEY]).permutation(num)

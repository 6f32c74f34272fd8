"""What happens to the two pictures of a pair alike: where the crop lies, its symmetry, and the mixing of pairs.

Everything drawn comes from the generator of the item, or, for mixing, of the step; both pictures share it. Clips
(T, 3, H, W) are moved as pictures are, all frames alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dehaze_bench.data.pairs import Sample

AUGMENTATIONS = ("flip", "rot90")
_MIX_KEY = 0x3B9D27E5  # a third word that no batch position reaches, so that this stream is no item's


@dataclass(frozen=True)
class Mix:
    """One batch to be mixed: position i becomes `share` of itself and the rest of position `partners[i]`."""

    share: float
    partners: tuple[int, ...]


def place_crop(
    picture: tuple[int, int], crop: tuple[int, int], rng: np.random.Generator, edge_decay: float = 0.0
) -> tuple[int, int]:
    """Return (top, left) of a random window of (height, width) `crop` in a picture of (height, width) pixels.

    Pixels at the border of a picture lie in few windows. `edge_decay` makes up for it as DehazeFormer and gUNet do
    (constant over training, in spite of its name): along each axis the window is moved to one of the two borders,
    each equally likely, with probability `edge_decay` x crop / picture; else it lies anywhere.
    """
    return _place(picture[0], crop[0], rng, edge_decay), _place(picture[1], crop[1], rng, edge_decay)


def augment(sample: Sample, kinds: Sequence[str], rng: np.random.Generator) -> Sample:
    """Apply one random symmetry to both: "flip" left to right, "rot90" by 0 to 3 quarter turns. Returns views."""
    flipped = "flip" in kinds and rng.random() < 0.5
    turns = int(rng.integers(4)) if "rot90" in kinds else 0

    def move(picture: np.ndarray) -> np.ndarray:
        picture = picture[..., ::-1] if flipped else picture
        return np.rot90(picture, turns, (-2, -1)) if turns else picture

    veil = sample.veil and replace(sample.veil, distance_HW=move(sample.veil.distance_HW))
    return Sample(sample.name, move(sample.hazy), move(sample.clear), veil)


def draw_mix(seed: int, step: int, batch: int, beta: float | None) -> Mix | None:
    """Draw how the batch of a step is mixed; None for every second one or so, and for all without `beta`.

    As in Restormer's training loop and its descendants, where it is on: half of the batches stay as they are, in the
    others one share from Beta(beta, beta) serves all pairs, and the partners are a permutation of the batch.
    """
    if beta is None:
        return None
    rng = np.random.default_rng([seed, step, _MIX_KEY])
    if rng.random() < 0.5:
        return None
    return Mix(float(rng.beta(beta, beta)), tuple(int(partner) for partner in rng.permutation(batch)))


def _place(length: int, size: int, rng: np.random.Generator, edge_decay: float) -> int:
    if edge_decay and rng.random() < edge_decay * size / length:
        return int(rng.integers(2)) * (length - size)
    return int(rng.integers(length - size + 1))

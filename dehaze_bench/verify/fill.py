"""Weights and inputs of the golden fixtures, rebuilt from names and seeds.

A fixture stores no weights: a tensor is a function of its published name and shape, an image of a seed and a
shape. NumPy only, so that the values depend on no torch version. All arithmetic is float64, rounded once at
the end.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np


def tensor(name: str, shape: Sequence[int]) -> np.ndarray:
    """Return the float32 array for the published tensor `name`.

    Normal numbers seeded by the crc32 of the name, scaled by what the tensor is: normalisation statistics
    near their rest, state-matrix logarithms positive, biases small, gains near one, matrices by 1/sqrt(fan
    in).
    """
    normal = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    part = name.split(".")[-1]
    if part == "num_batches_tracked":
        value = np.zeros(tuple(shape))
    elif part == "running_mean":
        value = 0.1 * normal
    elif part == "running_var":
        value = 1.0 + 0.1 * np.abs(normal)
    elif part.startswith("A_") and "log" in part:
        value = 0.5 * np.abs(normal)
    elif len(shape) > 1:
        value = normal / np.sqrt(np.prod(tuple(shape)[1:]))
    elif part.endswith("bias"):
        value = 0.1 * normal
    else:
        value = 1.0 + 0.1 * normal
    return np.asarray(value, dtype=np.float32)


def state_dict(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Return {published name: array} for the `shapes` of a fixture."""
    return {name: tensor(name, shape) for name, shape in shapes.items()}


def image(seed: int, shape: Sequence[int]) -> np.ndarray:
    """Return float32 images (N, C, H, W) in [0, 1]: six cosines per channel, squashed, plus 2 % noise."""
    num, channels, height, width = shape
    rng = np.random.default_rng(seed)
    y_H1 = np.arange(height, dtype=np.float64)[:, None]
    x_1W = np.arange(width, dtype=np.float64)[None, :]
    waves = np.zeros((num, channels, height, width))
    for plane_HW in waves.reshape(-1, height, width):
        for _ in range(6):
            cycles_y, cycles_x = rng.uniform(0, 4, 2)
            phase = rng.uniform(0, 2 * np.pi)
            gain = rng.uniform(0.2, 1)
            plane_HW += gain * np.cos(2 * np.pi * (cycles_y * y_H1 / height + cycles_x * x_1W / width) + phase)
    noise = rng.standard_normal(waves.shape)
    return np.clip(1.0 / (1.0 + np.exp(-waves)) + 0.02 * noise, 0.0, 1.0).astype(np.float32)

"""Fixtures of the data tests: one cache of `photos` for all of them, and a maker of folder trees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dehaze_bench.data import Photos

MakePicture = Callable[..., Path]


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return Photos(str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def picture() -> MakePicture:
    """Write a random picture of (height, width) in any Pillow mode and return its path."""

    def make(path: Path, height: int = 24, width: int = 32, mode: str = "RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([height, width])
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)
        return path

    return make

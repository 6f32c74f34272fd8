"""The smallest run that exercises everything: a tiny U-Net, tiny scenes, three tiny test pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dehaze_bench.compose import Composed, compose_run


def write_pairs(folder: Path, count: int = 3, size: tuple[int, int] = (21, 30)) -> None:
    """Write `count` pairs of smooth pictures, the hazy one veiled, under `folder`/hazy and `folder`/clear."""
    for name in ("hazy", "clear"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        ramp = np.linspace(0, 1, size[0])[:, None, None] * rng.uniform(0.2, 1, 3) * np.ones((1, size[1], 1))
        clear = 0.7 * ramp + 0.3 * rng.uniform(0, 1, (*size, 3))
        for name, image in (("clear", clear), ("hazy", 0.5 * clear + 0.45)):
            Image.fromarray((image * 255).round().astype(np.uint8)).save(folder / name / f"{index}.png")


def overrides(folder: Path, *more: str) -> list[str]:
    """Return the overrides of a tiny run whose runs, tables and data lie under `folder`."""
    if not (folder / "pairs").exists():
        write_pairs(folder / "pairs")
    return [
        f"paths.runs={folder}/runs",
        f"paths.tables={folder}/tables",
        "dataset.canvas=[64,64]",
        "testset=pairs",
        f"testset.hazy={folder}/pairs/hazy",
        f"testset.clear={folder}/pairs/clear",
        "track=off",
        "runtime.isolate=false",
        *more,
    ]


NETWORK = ("model/mixer=conv", "scan=raster", "model.width=4", "model.depths=[1,0,1,0,0]", "model.patch=4")
TRAINING = ("train.steps=6", "train.batch=2", "train.crop=32", "runtime.log_every=2", "runtime.save_every=2")


def tiny(folder: Path, *more: str) -> Composed:
    """Return a tiny training run."""
    return compose_run(overrides(folder, *NETWORK, *TRAINING, *more))

"""A made-up result.json, a folder full of made-up runs, and the types of the fixtures that write such files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from dehaze_bench.results.experiment import Experiment
from dehaze_bench.results.record import RunRecord

MakeRun = Callable[..., RunRecord]
MakeExperiment = Callable[..., Experiment]
MIXERS = ("mamba", "mamba2", "wkv", "attention")
SCANS = (
    *("raster", "columns", "bidirectional", "cross", "diagonal"),
    *("zigzag", "hilbert", "morton", "local", "random"),
)
COST = {
    **{"params": 78200, "macs": 1.23e9, "macs_size": [256, 256], "macs_paper": 1.31e9, "macs_rule": "vmamba"},
    **{"latency": None, "memory": None, "conditions": None},
}


def result(run_id: str, **changes: Any) -> dict[str, Any]:
    """A valid result.json as a plain dict; `changes` replace top-level fields, `evaluation` is merged."""
    evaluation = {
        "testset": "photos",
        "protocol": "full_rgb",
        "protocol_note": "RGB, full size",
        "select": "last",
        "step": 400,
        "n": 14,
        "seconds": 8.0,
        "decoder": "Pillow 12.0.0",
        "metrics": {
            "psnr": {"mean": 17.3, "std": 2.0, "higher": True},
            "ssim": {"mean": 0.8123, "std": 0.1, "higher": True},
            "ciede2000": {"mean": 9.5, "std": 1.0, "higher": False},
        },
    }
    evaluation |= changes.pop("evaluation", {})
    return {
        "schema": 1,
        "id": run_id,
        "slug": "unet",
        "dir": f"unet-{run_id}",
        "verb": "train",
        "kind": "ours",
        "seed": 0,
        "numerics": 1,
        "config": {"model": {"_target_": "x"}},
        "choices": {"model": "unet", "model/mixer": "mamba", "scan": "cross"},
        "cost": COST,
        "train": {"steps": 400, "seconds": 61.2, "images": 3200, "loss": 0.051, "skipped": 0},
        "evaluation": evaluation,
        "env": {"torch": "2.13.0+cpu", "python": "3.11.7", "device": "cpu", "backend": "numba"},
        "finished": "2026-01-01T00:00:00Z",
        **changes,
    }


def fabricate_many(
    folder: Path,
    runs: int = 200,
    images: int = 500,
    seeds: int = 5,
    names: Sequence[str] | None = None,
    pictures: int = 2,
) -> list[RunRecord]:
    """Write finished runs into `folder`, with all files that a real one leaves but weights; return their records.

    Run i has seed i % seeds; the runs of one seed after the other differ in mixer and scan. `names` are those of the
    directories ("<slug>-<8 hex digits>"), made up unless given. An image is equally hard for all runs, as in life.
    """
    rng = np.random.default_rng(7)
    hardness = rng.normal(0, 3, images)
    image_names = [f"image_{number:04d}" for number in range(images)]
    blots = [_blot(rng) for _ in range(7)]
    records = []
    for number in range(runs):
        row, seed = divmod(number, seeds)
        mixer, scan = MIXERS[row % len(MIXERS)], SCANS[row // len(MIXERS) % len(SCANS)]
        slug = f"unet-{mixer}-{scan}-deadleaves"
        name = names[number] if names else f"{slug}-{0x5B000000 + number:08x}"
        raw = _fabricated(name, seed, mixer, scan, row)
        level = 24 + 0.08 * (row % 17) - (1.5 if scan == "random" else 0)
        psnr = level + hardness + rng.normal(0, 0.1) + rng.normal(0, 0.4, images)
        columns = {
            "psnr": psnr,
            "ssim": 1 - 0.15 * 10 ** (-(psnr - 22) / 20),
            "ciede2000": 9 * 10 ** (-(psnr - 22) / 25),
        }
        for metric, values in columns.items():
            raw["evaluation"]["metrics"][metric] |= {"mean": float(values.mean()), "std": float(values.std(ddof=1))}
        raw["evaluation"]["n"] = images
        _write_run(folder / name, raw, image_names, columns)
        for index in range(min(pictures, images)):
            target = folder / name / "images" / "photos" / f"{image_names[index]}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(blots[(number + index) % len(blots)])
        records.append(RunRecord.from_dict(raw))
    return records


def _fabricated(name: str, seed: int, mixer: str, scan: str, row: int) -> dict[str, Any]:
    slug, run_id = name[:-9], name[-8:]
    choices = {"model": "unet", "model/mixer": mixer, "scan": scan, "dataset": "deadleaves", "testset": "photos"}
    cost = COST | {"params": 140_000 + 1000 * (row % 23), "macs": 1.0e8 * (1 + row % 11)}
    config = {"model": {"_target_": "x", "mixer": mixer}, "scan": {"name": scan}, "seed": seed}
    return result(run_id, slug=slug, dir=name, seed=seed, choices=choices, cost=cost, config=config)


def _write_run(folder: Path, raw: dict[str, Any], image_names: Sequence[str], columns: dict[str, Any]) -> None:
    """Write the files of a run, quickly: without the flush to disk that protects real ones."""
    folder.mkdir(parents=True)
    lines = [",".join(["name", *columns])]
    table = np.stack([*columns.values()], axis=1).tolist()
    lines += [",".join([name, *map(repr, values)]) for name, values in zip(image_names, table, strict=True)]
    (folder / "per_image.csv").write_text("\n".join(lines) + "\n")
    mean = {metric: raw["evaluation"]["metrics"][metric]["mean"] for metric in columns}
    curve = []
    for step in range(20, 401, 20):
        curve.append({"step": step, "loss": 0.3 / step**0.5, "lr": 1e-3 * (1 - step / 400), "images_per_second": 30.0})
        if step % 100 == 0:
            curve.append({"step": step, **{f"photos/{metric}": value - 100 / step for metric, value in mean.items()}})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in curve))
    (folder / "config.yaml").write_text(yaml.safe_dump(raw["config"]))
    (folder / "env.json").write_text(json.dumps(raw["env"]))
    (folder / "result.json").write_text(json.dumps(raw, indent=2))


def _blot(rng: np.random.Generator) -> bytes:
    """Return a small picture as PNG."""
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    out = io.BytesIO()
    coarse.resize((160, 120), Image.Resampling.BICUBIC).save(out, "png")
    return out.getvalue()

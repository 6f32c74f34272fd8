"""A made-up result.json, and the types of the fixtures that write such files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dehaze_bench.results.experiment import Experiment
from dehaze_bench.results.record import RunRecord

MakeRun = Callable[..., RunRecord]
MakeExperiment = Callable[..., Experiment]


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
        "cost": {"params": 78200, "macs": 1.23e9, "macs_size": [256, 256]},
        "train": {"steps": 400, "seconds": 61.2, "images": 3200, "loss": 0.051},
        "evaluation": evaluation,
        "env": {"torch": "2.13.0+cpu", "python": "3.11.7", "device": "cpu", "backend": "numba"},
        "finished": "2026-01-01T00:00:00Z",
        **changes,
    }

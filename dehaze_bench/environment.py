"""Where a number was made: versions, device, operator backends. Only names and versions, never variables."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from typing import Any

PACKAGES = (
    "torch",
    "numpy",
    "numba",
    "pillow",
    "kornia",
    "scikit-image",
    "hydra-core",
    "triton",
    "mamba-ssm",
    "wandb",
)


def describe_environment(device: Any = "cpu") -> dict[str, Any]:
    """Return versions, device and backends as plain data for `env.json`, results and `dehaze-bench env`.

    "backends" says of each "ok" or why it cannot run here; "auto/cpu" and "auto/cuda" what backend=auto takes there.
    """
    import torch

    from dehaze_bench import __version__
    from dehaze_bench.ops.backends import available_backends, preferred_backend

    device = torch.device(device)
    found: dict[str, Any] = {"dehaze_bench": __version__, "python": platform.python_version()}
    found["platform"] = f"{platform.system()} {platform.machine()}"
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["torch"] = torch.__version__
    found["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    found["threads"] = torch.get_num_threads()
    found["cores"] = os.cpu_count()
    found["auto/cpu"] = preferred_backend("cpu")
    found["auto/cuda"] = preferred_backend("cuda") if torch.cuda.is_available() else "no CUDA device"
    found["backends"] = available_backends()
    return found


def to_text(found: dict[str, Any], as_json: bool = False) -> str:
    """Return a description as lines, one per fact, or as JSON."""
    if as_json:
        return json.dumps(found, indent=1)
    facts = {key: value for key, value in found.items() if key != "backends"}
    facts |= {f"ops/{backend}": status for backend, status in found["backends"].items()}
    return "\n".join(f"{key:14} {value}" for key, value in facts.items())

"""One measurement in a process of its own, so that what ran before is not in its memory, nor a crash in ours.

The parent sends a request as JSON to standard input and reads the answer from the last line of standard output.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dehaze_bench.errors import BenchError
from dehaze_bench.profiling.measure import Measured, Settings, measure

SEED = 0
# How torch says that memory is short, on a GPU and on a CPU.
SHORT = ("out of memory", "can't allocate memory", "not enough memory")


class Failure(Exception):
    """A measurement that did not come about; the text says why in a few words."""


def ask(blueprint: Mapping[str, Any], device: str, settings: Settings, limit: float) -> Measured:
    """Measure a network (see `build.blueprint`) in a fresh process; raises `Failure` where that does not work."""
    request = json.dumps({"blueprint": blueprint, "device": device, "settings": asdict(settings)})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dehaze_bench.profiling.worker"],
            input=request,
            capture_output=True,
            text=True,
            timeout=limit,
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"took more than {limit:g} s") from None
    if done.returncode == -signal.SIGKILL:
        raise Failure("killed by the system, most likely out of memory")
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines()
        raise Failure(said[-1] if said else f"the process ended with code {done.returncode}")
    answer = json.loads(lines[-1])
    if "error" in answer:
        raise Failure(answer["error"])
    return Measured(**answer)


def main() -> None:
    """Answer one request."""
    print(json.dumps(_answer(json.load(sys.stdin))))


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    from dehaze_bench import build

    torch.manual_seed(SEED)
    try:
        network = build.from_blueprint(request["blueprint"]).to(request["device"])
        return asdict(measure(network, Settings(**request["settings"])))
    except (BenchError, RuntimeError, ValueError, AssertionError, MemoryError) as error:
        return {"error": describe(error)}


def describe(error: Exception) -> str:
    """Return in one line why a network does not run."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return "out of memory" if isinstance(error, MemoryError) or any(word in text for word in SHORT) else text


if __name__ == "__main__":
    main()

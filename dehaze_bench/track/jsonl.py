"""`metrics.jsonl`: one JSON object per record, on disk at once, cut back when a run resumes."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dehaze_bench.track.sink import EvaluationView, RunInfo

_LOG = logging.getLogger(__name__)


class JsonlSink:
    """Appends to `metrics.jsonl` in the run directory; stops with one warning when the disk refuses."""

    def __init__(self) -> None:
        self._path: Path | None = None

    def start(self, run: RunInfo) -> None:
        self._path = run.dir / "metrics.jsonl"
        _truncate(self._path, run.resumed)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._write(step, values)

    def evaluation(self, view: EvaluationView) -> None:
        self._write(view.step, {f"{view.name}/{column}": value for column, value in view.means.items()})

    def finish(self, result: Mapping[str, Any]) -> None:
        self._path = None

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        if self._path is None:
            return
        numbers = {name: float(value) for name, value in values.items()}
        strict = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
        try:
            with open(self._path, "a", encoding="utf-8") as out:
                out.write(json.dumps({"step": step, **strict}, allow_nan=False) + "\n")
        except OSError as error:
            _LOG.warning("%s stops at step %d (%s); the run goes on", self._path, step, error)
            self._path = None


def _truncate(path: Path, step: int) -> None:
    """Drop records after `step`, all of them for step 0, and half lines that a crash left."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines() if step else []
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as out:
        out.writelines(f"{line}\n" for line in lines if _is_until(line, step))
        out.flush()
        os.fsync(out.fileno())
    os.replace(temporary, path)


def _is_until(line: str, step: int) -> bool:
    try:
        return int(json.loads(line)["step"]) <= step
    except (ValueError, KeyError, TypeError):
        return False

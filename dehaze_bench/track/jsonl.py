"""`metrics.jsonl`: one JSON object per record, on disk at once, cut back when a run resumes."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dehaze_bench.track.sink import EvaluationView, RunInfo

_LOG = logging.getLogger(__name__)


class JsonlSink:
    """Appends to `metrics.jsonl` in the run directory. Records that the disk refuses wait, and go with a later one."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._last = ""
        self._waiting: list[str] = []
        self._warned = False

    def start(self, run: RunInfo) -> None:
        self._path = run.dir / "metrics.jsonl"
        self._last = _truncate(self._path, run.resumed)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._write(step, values)

    def evaluation(self, view: EvaluationView) -> None:
        self._write(view.step, {f"{view.name}/{column}": value for column, value in view.means.items()})

    def finish(self, result: Mapping[str, Any]) -> None:
        if self._path is not None and self._waiting:
            _LOG.warning("%d records could not be written to %s and are lost", len(self._waiting), self._path)
        self._path = None

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        if self._path is None:
            return
        numbers = {name: float(value) for name, value in values.items()}
        strict = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
        line = json.dumps({"step": step, **strict}, allow_nan=False) + "\n"
        before, self._last = self._last, ""
        if line == before:  # the last evaluation, which a kill came right after, done again
            return
        self._waiting.append(line)
        try:
            _append(self._path, "".join(self._waiting).encode())
            self._waiting.clear()
        except OSError as error:
            if not self._warned:
                _LOG.warning("%s cannot be written at step %d (%s); the run goes on", self._path, step, error)
            self._warned = True


def _append(path: Path, data: bytes) -> None:
    """Append all of it or nothing: a full disk takes the first half of a line without a word."""
    with open(path, "ab", buffering=0) as out:
        end = out.tell()
        try:
            if out.write(data) == len(data):
                return
        except OSError:
            out.truncate(end)
            raise
        out.truncate(end)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_history(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """The records of a `metrics.jsonl`: step and values; half lines are left out, and a missing file has none."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        if _is_until(line, sys.maxsize):
            values = json.loads(line)
            yield int(values.pop("step")), {name: float(value) for name, value in values.items()}


def _truncate(path: Path, step: int) -> str:
    """Drop records after `step`, all for step 0, and half lines that a crash left; return the last that stays."""
    if not path.exists():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines() if step else []
    kept = [f"{line}\n" for line in lines if _is_until(line, step)]
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as out:
        out.writelines(kept)
        out.flush()
        os.fsync(out.fileno())
    os.replace(temporary, path)
    return kept[-1] if kept else ""


def _is_until(line: str, step: int) -> bool:
    try:
        return int(json.loads(line)["step"]) <= step
    except (ValueError, KeyError, TypeError):
        return False

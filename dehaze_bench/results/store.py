"""The folder of runs, seen from outside: which runs exist, and in what state each of them is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.locking import describe_holder
from dehaze_bench.results.record import FAILED, RESULT, RunRecord, read_failure, read_record

State = Literal["done", "failed", "running", "interrupted", "empty", "broken"]

_RUN_DIR = re.compile(r"(?P<slug>.+)-(?P<id>[0-9a-f]{8})")
_BEGUN = ("config.yaml", "metrics.jsonl", "last.pt", "best.safetensors")


@dataclass(frozen=True)
class StoredRun:
    """One run directory. `record` is set when "done", `reason` when "failed", "broken" or (the process) "running"."""

    id: str
    slug: str
    path: Path
    state: State
    record: RunRecord | None = None
    reason: str = ""


class Store:
    """The runs under one root folder (`<slug>-<8 hex digits>/` each); a missing root is an empty store."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def runs(self) -> list[StoredRun]:
        """All runs by directory name; one that cannot be understood is listed as broken."""
        try:
            paths = sorted(path for path in self.root.iterdir() if _RUN_DIR.fullmatch(path.name) and path.is_dir())
        except FileNotFoundError:
            return []
        return [_inspect(path) for path in paths]

    def get(self, run_id: str) -> StoredRun | None:
        """The run with this id in whatever state, or None; the finished one where two slugs share an id."""
        if not re.fullmatch(r"[0-9a-f]{8}", run_id):
            return None
        runs = [_inspect(path) for path in sorted(self.root.glob(f"?*-{run_id}")) if path.is_dir()]
        return min(runs, key=lambda run: run.state != "done", default=None)

    def find(self, run_id: str) -> RunRecord | None:
        """The record of a finished run, or None when there is no such run or it is not done."""
        run = self.get(run_id)
        return run.record if run else None

    def path(self, run_id: str) -> Path | None:
        """The directory of a run in whatever state, or None."""
        run = self.get(run_id)
        return run.path if run else None

    def require(self, name: str) -> StoredRun:
        """The finished run that a user named by id or by directory name.

        Raises:
            UsageError: there is no such run, or it is not done; the message says which.
        """
        match = _RUN_DIR.fullmatch(Path(name).name)
        run = self.get(match["id"] if match else name)
        if run is None:
            known = [stored.path.name for stored in self.runs() if stored.state == "done"]
            ids = [directory[-8:] for directory in known]
            hint = nearest(name, known if match else ids)
            raise UsageError(f"no run '{name}' under {self.root}. {hint}")
        if run.record is None:
            raise UsageError(
                f"run {run.path.name} is not done but {run.state}" + (f": {run.reason}" if run.reason else "")
            )
        return run


def _inspect(path: Path) -> StoredRun:
    match = _RUN_DIR.fullmatch(path.name)
    assert match, path
    run_id, slug = match["id"], match["slug"]
    try:
        if (path / RESULT).exists():
            record = read_record(path / RESULT)
            if record.id != run_id:
                reason = f"{path / RESULT} belongs to run {record.id}: the directory was renamed or copied"
                return StoredRun(run_id, slug, path, "broken", reason=reason)
            return StoredRun(run_id, slug, path, "done", record)
        holder = describe_holder(path)
        if holder is not None:
            return StoredRun(run_id, slug, path, "running", reason=holder)
        if (path / FAILED).exists():
            failure = read_failure(path / FAILED)
            return StoredRun(run_id, slug, path, "failed", reason=f"{failure.type}: {failure.error}")
        begun = any((path / name).exists() for name in _BEGUN)
        return StoredRun(run_id, slug, path, "interrupted" if begun else "empty")
    except (UsageError, OSError) as error:
        return StoredRun(run_id, slug, path, "broken", reason=str(error))

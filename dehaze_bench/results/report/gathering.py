"""What a run directory tells a report; what cannot be read is a problem on the page of that run, never an end."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dehaze_bench.errors import UsageError
from dehaze_bench.results.fields import Fields
from dehaze_bench.results.files import read_json, read_text
from dehaze_bench.results.record import FAILED, PER_IMAGE, ImageRow, read_failure, read_per_image
from dehaze_bench.results.store import StoredRun

CONFIG, ENVIRONMENT, METRICS = "config.yaml", "env.json", "metrics.jsonl"


@dataclass(frozen=True)
class Curve:
    """A quantity over training steps; None stands for a value that was not finite."""

    steps: tuple[int, ...]
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class RunPage:
    """A run with all that its page shows; `key` names its files in the report."""

    key: str
    run: StoredRun
    images: tuple[ImageRow, ...]
    curves: dict[str, Curve]
    config: str
    env: dict[str, Any]
    traceback: str
    problems: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why the run is in its state, without the place where its directory lies on this machine."""
        return shorten(self.run.reason, self.run.path)


def shorten(text: str, folder: Path) -> str:
    """A text in which the files of a folder are named as seen from there."""
    return text.replace(f"{folder}/", "")


def name_pages(runs: Sequence[StoredRun]) -> list[str]:
    """A short, unique file name per run: its id, with a number behind it where two directories share one."""
    seen: dict[str, int] = {}
    keys = []
    for run in runs:
        seen[run.id] = seen.get(run.id, 0) + 1
        keys.append(run.id if seen[run.id] == 1 else f"{run.id}-{seen[run.id]}")
    return keys


def gather(key: str, run: StoredRun) -> RunPage:
    """Read everything of a run but its pictures, in whatever state it is."""
    problems: list[str] = []
    images: list[ImageRow] = []
    if (run.path / PER_IMAGE).exists():
        try:
            images = read_per_image(run.path / PER_IMAGE)
        except UsageError as error:
            problems.append(str(error))
    elif run.state == "done":
        problems.append(f"{run.path / PER_IMAGE} is missing: there are no values per image")
    return RunPage(
        key=key,
        run=run,
        images=tuple(images),
        curves=_read_curves(run.path / METRICS, problems),
        config=_read_config(run, problems),
        env=_read_environment(run, problems),
        traceback=_read_traceback(run, problems),
        problems=tuple(shorten(problem, run.path) for problem in problems),
    )


def _read_curves(path: Path, problems: list[str]) -> dict[str, Curve]:
    if not path.exists():
        return {}
    try:
        lines = read_text(path).splitlines()
    except UsageError as error:
        problems.append(str(error))
        return {}
    points: dict[str, list[tuple[int, float | None]]] = {}
    spoilt = 0
    for line in lines:
        try:
            fields = Fields(json.loads(line), str(path))
            step = int(fields.integer("step"))
            values = {name: fields.number(name) for name in fields.raw if name != "step"}
        except (ValueError, UsageError):
            spoilt += 1
            continue
        for name, value in values.items():
            points.setdefault(name, []).append((step, value if math.isfinite(value) else None))
    if spoilt:
        problems.append(f"{path}: {spoilt} of {len(lines)} lines cannot be read")
    curves = {}
    for name, pairs in points.items():
        if len(pairs) > 1:  # a single point is no curve
            pairs.sort(key=lambda pair: pair[0])
            curves[name] = Curve(tuple(step for step, _ in pairs), tuple(value for _, value in pairs))
    return curves


def _read_config(run: StoredRun, problems: list[str]) -> str:
    if (run.path / CONFIG).exists():
        try:
            return read_text(run.path / CONFIG)
        except UsageError as error:
            problems.append(str(error))
    return yaml.safe_dump(run.record.config, sort_keys=False) if run.record else ""


def _read_environment(run: StoredRun, problems: list[str]) -> dict[str, Any]:
    if run.record:
        return run.record.env
    if not (run.path / ENVIRONMENT).exists():
        return {}
    try:
        return Fields(read_json(run.path / ENVIRONMENT), str(run.path / ENVIRONMENT)).raw
    except UsageError as error:
        problems.append(str(error))
        return {}


def _read_traceback(run: StoredRun, problems: list[str]) -> str:
    if run.state != "failed":
        return ""
    try:
        return read_failure(run.path / FAILED).traceback
    except UsageError as error:
        problems.append(str(error))
        return ""

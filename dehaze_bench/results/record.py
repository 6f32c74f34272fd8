"""What a run leaves behind, typed: `result.json`, `per_image.csv` and `failed.json`."""

from __future__ import annotations

import csv
import io
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dehaze_bench.errors import UsageError
from dehaze_bench.results.fields import Fields
from dehaze_bench.results.files import read_json, read_text, write_json_atomic, write_text_atomic

__all__ = [
    "FAILED",
    "KINDS",
    "PER_CLIP",
    "PER_IMAGE",
    "RESULT",
    "SCHEMA",
    "TEMPORAL",
    "VERBS",
    "Cost",
    "Evaluation",
    "Failure",
    "ImageRow",
    "MetricValue",
    "RunRecord",
    "Training",
    "read_failure",
    "read_per_image",
    "read_record",
    "write_failure",
    "write_json_atomic",
    "write_per_image",
    "write_record",
    "write_text_atomic",
]

SCHEMA = 1
VERBS = ("train", "eval")
KINDS = ("ours", "rerun")
# What videos are measured by besides their frames: metrics/temporal.py.
TEMPORAL = "temporal"
RESULT, FAILED, PER_IMAGE, PER_CLIP = "result.json", "failed.json", "per_image.csv", "per_clip.csv"
BEST = "best.safetensors"
_LATER_COSTS = ("macs_paper", "macs_rule", "latency", "memory", "conditions")


@dataclass(frozen=True)
class MetricValue:
    """One metric over a test set: mean and sample standard deviation over the images."""

    mean: float
    std: float
    higher: bool

    @classmethod
    def from_dict(cls, raw: object, where: str) -> MetricValue:
        fields = Fields(raw, where)
        return cls(fields.number("mean"), fields.number("std"), fields.flag("higher"))


@dataclass(frozen=True)
class Cost:
    """Parameters, and multiply-adds of one forward pass at `macs_size` (height, width).

    `macs` by our rule, `macs_paper` by that of the network's paper, whose name is `macs_rule`. `latency` (seconds per
    forward pass) and `memory` (bytes) were measured under `conditions`, where they were.
    """

    params: int | None = None
    macs: float | None = None
    macs_size: tuple[int, int] | None = None
    macs_paper: float | None = None
    macs_rule: str | None = None
    latency: float | None = None
    memory: int | None = None
    conditions: str | None = None

    @classmethod
    def from_dict(cls, raw: object, where: str) -> Cost:
        """Check and convert; records of older versions lack all but the first three."""
        fields = Fields(raw, where)
        later = Fields({name: fields.raw.get(name) for name in _LATER_COSTS}, where)
        texts = {name: None if later.raw[name] is None else later.text(name) for name in ("macs_rule", "conditions")}
        return cls(
            fields.integer("params", optional=True),
            fields.number("macs", optional=True),
            fields.size("macs_size"),
            macs_paper=later.number("macs_paper", optional=True),
            latency=later.number("latency", optional=True),
            memory=later.integer("memory", optional=True),
            **texts,
        )


@dataclass(frozen=True)
class Training:
    """What the training half of a run did; a run without one was never trained.

    `skipped` counts the steps that were passed over because their loss or gradient was not finite.
    """

    steps: int
    seconds: float
    images: int
    loss: float | None
    skipped: int = 0

    @classmethod
    def from_dict(cls, raw: object, where: str) -> Training:
        fields = Fields(raw, where)
        return cls(
            fields.integer("steps"),
            fields.number("seconds"),
            fields.integer("images"),
            fields.number("loss", optional=True),
            fields.integer("skipped") if "skipped" in fields.raw else 0,
        )


@dataclass(frozen=True)
class Evaluation:
    """One test set measured under one protocol; `n` counts images, `step` is the step of the weights."""

    testset: str
    protocol: str
    protocol_note: str
    select: str
    step: int | None
    n: int
    seconds: float
    decoder: str
    metrics: dict[str, MetricValue]

    @classmethod
    def from_dict(cls, raw: object, where: str) -> Evaluation:
        fields = Fields(raw, where)
        return cls(
            testset=fields.text("testset"),
            protocol=fields.text("protocol"),
            protocol_note=fields.text("protocol_note"),
            select=fields.text("select"),
            step=fields.integer("step", optional=True),
            n=fields.integer("n"),
            seconds=fields.number("seconds"),
            decoder=fields.text("decoder"),
            metrics={
                name: MetricValue.from_dict(value, f"{where}.metrics.{name}")
                for name, value in fields.mapping("metrics").items()
            },
        )


@dataclass(frozen=True)
class RunRecord:
    """The content of one `result.json`; `dir` is the name of the run directory, not a path."""

    id: str
    slug: str
    dir: str
    verb: str
    kind: str
    seed: int
    numerics: int
    config: dict[str, Any]
    choices: dict[str, str]
    cost: Cost
    train: Training | None
    evaluation: Evaluation
    env: dict[str, Any]
    finished: str
    schema: int = SCHEMA

    @classmethod
    def from_dict(cls, raw: object, where: str = RESULT) -> RunRecord:
        """Check and convert the parsed JSON; extra keys are ignored, missing or mistyped ones are not.

        Raises:
            UsageError: names `where` (a path) and the first field that is wrong.
        """
        fields = Fields(raw, where)
        schema = fields.integer("schema")
        if schema != SCHEMA:
            raise fields.error("schema", f"is {schema}, this version reads {SCHEMA}; evaluate the run again")
        train = fields.get("train")
        return cls(
            id=fields.text("id"),
            slug=fields.text("slug"),
            dir=fields.text("dir"),
            verb=fields.one_of("verb", VERBS),
            kind=fields.one_of("kind", KINDS),
            seed=fields.integer("seed"),
            numerics=fields.integer("numerics"),
            config=dict(fields.mapping("config")),
            choices={name: str(value) for name, value in fields.mapping("choices").items()},
            cost=Cost.from_dict(fields.mapping("cost"), f"{where}: cost"),
            train=None if train is None else Training.from_dict(train, f"{where}: train"),
            evaluation=Evaluation.from_dict(fields.mapping("evaluation"), f"{where}: evaluation"),
            env=dict(fields.mapping("env")),
            finished=fields.text("finished"),
            schema=schema,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def untrained(self) -> bool:
        """Whether no training stands behind the network (identity, a prior)."""
        return self.kind == "ours" and self.train is None and not self.evaluation.step


@dataclass(frozen=True)
class ImageRow:
    """The metrics of one test image."""

    name: str
    values: dict[str, float]


@dataclass(frozen=True)
class Failure:
    """The content of one `failed.json`."""

    id: str
    slug: str
    error: str
    type: str
    traceback: str
    time: str
    exit_code: int

    @classmethod
    def from_exception(cls, error: BaseException, run_id: str, slug: str, time: str) -> Failure:
        """Describe `error`; the exit code is the error's own where it has one, else 1."""
        trace = "".join(traceback.format_exception(error))
        code = getattr(error, "exit_code", 1)
        return cls(run_id, slug, str(error), type(error).__name__, trace, time, code)

    @classmethod
    def from_dict(cls, raw: object, where: str = FAILED) -> Failure:
        fields = Fields(raw, where)
        names = ("id", "slug", "error", "type", "traceback", "time")
        return cls(**{name: fields.text(name) for name in names}, exit_code=fields.integer("exit_code"))


def read_record(path: Path) -> RunRecord:
    """Read a `result.json`; raises UsageError naming the file and what is wrong with it."""
    return RunRecord.from_dict(read_json(path), str(path))


def write_record(run_dir: Path, record: RunRecord) -> Path:
    """Write `result.json` into `run_dir`: the last file of a run, whose existence means done."""
    path = run_dir / RESULT
    write_json_atomic(path, record.to_dict())
    return path


def read_failure(path: Path) -> Failure:
    """Read a `failed.json`; raises UsageError naming the file and what is wrong with it."""
    return Failure.from_dict(read_json(path), str(path))


def write_failure(run_dir: Path, failure: Failure) -> Path:
    """Write `failed.json` into `run_dir` and return its path."""
    path = run_dir / FAILED
    write_json_atomic(path, asdict(failure))
    return path


def write_per_image(path: Path, columns: Sequence[str], rows: Sequence[ImageRow]) -> None:
    """Write one line per test image, in the order given, with every digit of the numbers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["name", *columns])
    for row in rows:
        writer.writerow([row.name, *(repr(float(row.values[column])) for column in columns)])
    write_text_atomic(path, out.getvalue())


def read_per_image(path: Path) -> list[ImageRow]:
    """Read a `per_image.csv`; raises UsageError naming the file and the line that is wrong."""
    header, *lines = list(csv.reader(io.StringIO(read_text(path), newline=""))) or [[]]
    if header[:1] != ["name"]:
        raise UsageError(f"{path}: the first column must be 'name', found {header[:1]}")
    rows = []
    for number, line in enumerate(lines, start=2):
        try:
            values = dict(zip(header[1:], map(float, line[1:]), strict=True))
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
        rows.append(ImageRow(line[0], values))
    return rows

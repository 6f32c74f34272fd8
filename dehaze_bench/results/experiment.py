"""An experiment: a YAML file that says which runs belong together and how they become a table."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import yaml

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.results.fields import Fields
from dehaze_bench.results.files import read_text
from dehaze_bench.results.samples import UNITS, Unit

# What a network costs: counted, or measured by `dehaze-bench profile`.
COST_COLUMNS = ("params", "macs", "macs_paper", "latency", "memory")
# The `kind` of a file that compares costs instead of runs (see costs.py).
KIND_PROFILE = "profile"
_KEYS = (
    *("name", "title", "note", "base", "seeds", "rows", "grid"),
    *("columns", "sort", "references", "reference_source"),
    *("baseline", "compare", "unit"),
)
_ROW_KEYS = ("label", "overrides", "seeds", "of")
_OVERRIDE = re.compile(r"(\+{0,2}[\w./@-]+=.*|~[\w./@-]+(=.*)?)", re.DOTALL)


@dataclass(frozen=True)
class ExperimentRow:
    """One line of the table: overrides on top of the experiment's base, run once per seed.

    `of` is the label of an earlier row whose trained weights this one measures, on another test set say; its overrides
    follow those of that row.
    """

    label: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]
    of: str | None = None


@dataclass(frozen=True)
class Job:
    """One run to make: `row` indexes the table rows, `overrides` is all that follows the verb; `of` as in the row."""

    row: int
    label: str
    seed: int
    overrides: tuple[str, ...]
    of: str | None = None


@dataclass(frozen=True)
class Experiment:
    """A checked experiment file; `references` are paths of existing files with published numbers.

    With a `reference_source`, of these only the rows count whose source begins with it: the table of one paper.
    With a `baseline` (the label of a row) the others are compared with it by the metric `compare`, over `unit`:
    "scenes" where a test set shows a scene in several images, which are then averaged.
    """

    name: str
    title: str
    note: str
    base: tuple[str, ...]
    rows: tuple[ExperimentRow, ...]
    columns: tuple[str, ...]
    sort: str | None
    references: tuple[Path, ...]
    path: Path
    reference_source: str | None = None
    baseline: str | None = None
    compare: str = "psnr"
    unit: Unit = "images"

    @classmethod
    def load(cls, path: Path) -> Experiment:
        """Read and check an experiment file.

        Raises:
            UsageError: unknown or missing keys, a malformed row, a missing reference file.
        """
        fields = Fields(load_yaml(path), str(path))
        if fields.raw.get("kind") == KIND_PROFILE:
            raise UsageError(f"{path} compares costs and has no runs: dehaze-bench profile {path}")
        fields.check_keys(_KEYS)
        name = fields.text("name")
        if not re.fullmatch(r"[\w-]+", name):
            raise fields.error("name", f"must consist of letters, digits, '-' and '_', found '{name}'")
        seeds = fields.integer_list("seeds") or (0,)
        base = _overrides(fields, "base")
        columns = fields.text_list("columns")
        if not columns:
            raise fields.error("columns", "must list at least one column, for example [params, macs, psnr, ssim]")
        if len(set(columns)) < len(columns):
            raise fields.error("columns", f"repeats a column: {list(columns)}")
        sort = fields.text("sort") if fields.raw.get("sort") is not None else None
        if sort is not None and sort not in columns:
            raise fields.error("sort", f"names '{sort}', which is not a column. {nearest(sort, columns)}")
        rows = _rows(fields, seeds, _grid(fields))
        return cls(
            name=name,
            title=fields.text("title") if "title" in fields.raw else name,
            note=fields.text("note").strip() if fields.raw.get("note") is not None else "",
            base=base,
            rows=rows,
            columns=columns,
            sort=sort,
            references=tuple(_existing(fields, path.parent / name) for name in fields.text_list("references")),
            reference_source=fields.text("reference_source") if "reference_source" in fields.raw else None,
            path=path,
            baseline=fields.one_of("baseline", [row.label for row in rows]) if "baseline" in fields.raw else None,
            compare=_compared(fields, [column for column in columns if column not in COST_COLUMNS]),
            unit=cast(Unit, fields.one_of("unit", UNITS)) if "unit" in fields.raw else "images",
        )

    def jobs(self) -> list[Job]:
        """Every run of the experiment, row by row and seed by seed."""
        return [
            Job(index, row.label, seed, (*self.base, *row.overrides, f"seed={seed}"), row.of)
            for index, row in enumerate(self.rows)
            for seed in row.seeds
        ]


@dataclass(frozen=True)
class Listed:
    """One line of a listing of experiments; `error` says why the file cannot be used, where it cannot."""

    name: str
    title: str
    path: Path
    error: str = ""


def find_experiment(name: str, directories: Sequence[Path]) -> Path:
    """The file of an experiment given as a path or by name; earlier directories win.

    Raises:
        UsageError: no such file; names the nearest experiment.
    """
    if Path(name).is_file():
        return Path(name)
    stem = Path(name).stem if name.endswith((".yaml", ".yml")) else name
    found = _files(directories)
    if stem in found:
        return found[stem]
    places = ", ".join(str(directory) for directory in directories)
    raise UsageError(f"no experiment '{name}' in {places}. {nearest(stem, found)}")


def list_experiments(directories: Sequence[Path]) -> list[Listed]:
    """All experiments by name; a file that cannot be read is listed with its error, never raised."""
    from dehaze_bench.results.costs import CostExperiment

    listing = []
    for stem, path in sorted(_files(directories).items()):
        try:
            found = CostExperiment.load(path) if is_profile(path) else Experiment.load(path)
            listing.append(Listed(stem, found.title, path))
        except UsageError as error:
            listing.append(Listed(stem, "", path, str(error)))
    return listing


def is_profile(path: Path) -> bool:
    """Whether a file compares costs instead of runs."""
    raw = load_yaml(path)
    return isinstance(raw, dict) and raw.get("kind") == KIND_PROFILE


def load_yaml(path: Path) -> object:
    """Parse a YAML file; raises UsageError naming it and the line when it is malformed."""
    try:
        return yaml.load(read_text(path), Loader=_Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the numbers of YAML 1.2: 2.5e6 is a number, not a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _files(directories: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for directory in directories:
        for path in sorted([*directory.glob("*.yaml"), *directory.glob("*.yml")]):
            found.setdefault(path.stem, path)
    return found


def _rows(fields: Fields, seeds: tuple[int, ...], grid: list[tuple[str, ...]]) -> tuple[ExperimentRow, ...]:
    raw = fields.raw.get("rows", [] if grid else None)
    if not isinstance(raw, list) or not (raw or grid):
        raise fields.error("rows", "must list at least one row, for example {label: Mamba, overrides: [model=unet]}")
    rows: list[ExperimentRow] = []
    for number, item in enumerate(raw, start=1):
        row = Fields(item, f"{fields.where}: row {number}")
        row.check_keys(_ROW_KEYS)
        overrides, source = _overrides(row, "overrides"), None
        if "of" in row.raw:
            trained = {other.label: other for other in rows if other.of is None}
            source = trained[row.one_of("of", list(trained))]
            overrides = (*source.overrides, *overrides)
        own_seeds = row.integer_list("seeds") or (source.seeds if source else seeds)
        if source is not None and not set(own_seeds) <= set(source.seeds):
            raise row.error("seeds", f"asks for {list(own_seeds)}, but '{source.label}' has {list(source.seeds)}")
        rows.append(ExperimentRow(row.text("label"), overrides, own_seeds, source.label if source else None))
    constant = set.intersection(*map(set, grid)) if len(grid) > 1 else set()
    for overrides in grid:
        values = [text.partition("=")[2] for text in overrides if text not in constant]
        rows.append(ExperimentRow(", ".join(values), overrides, seeds))
    for number, made in enumerate(rows):
        if made.label in (other.label for other in rows[:number]):
            raise fields.error("rows", f"repeats '{made.label}': rows of one table need different labels")
    return tuple(rows)


def _grid(fields: Fields) -> list[tuple[str, ...]]:
    """The rows of `grid: {key: [values], ...}`: one for every combination, labelled with what differs between them."""
    raw = fields.raw.get("grid")
    if raw is None:
        return []
    if not isinstance(raw, dict) or not raw or not all(isinstance(values, list) and values for values in raw.values()):
        raise fields.error("grid", "must map keys to lists of values, for example {scan: [raster, cross]}")
    axes = [[f"{key}={value}" for value in values] for key, values in raw.items()]
    for override in itertools.chain(*axes):
        _check_override(fields, "grid", override)
    return list(itertools.product(*axes))


def _overrides(fields: Fields, name: str) -> tuple[str, ...]:
    overrides = fields.text_list(name)
    for override in overrides:
        _check_override(fields, name, override)
    return overrides


def _check_override(fields: Fields, name: str, override: str) -> None:
    if not _OVERRIDE.fullmatch(override):
        raise fields.error(name, f"holds '{override}', which is not an override like 'model=unet'")
    if re.match(r"\+{0,2}seed=", override):
        raise fields.error(name, f"sets '{override}': list seeds under 'seeds', so that the table counts them")


def _compared(fields: Fields, metrics: Sequence[str]) -> str:
    """The metric by which rows are compared: psnr unless the file says otherwise or has no such column."""
    if "compare" in fields.raw:
        return fields.one_of("compare", metrics)
    return "psnr" if "psnr" in metrics else next(iter(metrics), "psnr")


def _existing(fields: Fields, path: Path) -> Path:
    if not path.is_file():
        choices = [f"{path.parent.name}/{other.name}" for other in path.parent.glob("*.yaml")]
        raise fields.error("references", f"names {path}, which does not exist. {nearest(path.name, choices)}")
    return path

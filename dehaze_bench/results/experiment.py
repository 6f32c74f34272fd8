"""An experiment: a YAML file that says which runs belong together and how they become a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.results.fields import Fields
from dehaze_bench.results.files import read_text

COST_COLUMNS = ("params", "macs")
# The `kind` of a file that compares costs instead of runs (see costs.py).
KIND_PROFILE = "profile"
_KEYS = ("name", "title", "note", "base", "seeds", "rows", "columns", "sort", "references", "reference_source")
_ROW_KEYS = ("label", "overrides", "seeds")
_OVERRIDE = re.compile(r"(\+{0,2}[\w./@-]+=.*|~[\w./@-]+(=.*)?)", re.DOTALL)


@dataclass(frozen=True)
class ExperimentRow:
    """One line of the table: overrides on top of the experiment's base, run once per seed."""

    label: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """One run to make: `row` indexes the table rows, `overrides` is all that follows the verb."""

    row: int
    label: str
    seed: int
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Experiment:
    """A checked experiment file; `references` are paths of existing files with published numbers.

    With a `reference_source`, of these only the rows count whose source begins with it: the table of one paper.
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
        return cls(
            name=name,
            title=fields.text("title") if "title" in fields.raw else name,
            note=fields.text("note").strip() if fields.raw.get("note") is not None else "",
            base=base,
            rows=_rows(fields, seeds),
            columns=columns,
            sort=sort,
            references=tuple(_existing(fields, path.parent / name) for name in fields.text_list("references")),
            reference_source=fields.text("reference_source") if "reference_source" in fields.raw else None,
            path=path,
        )

    def jobs(self) -> list[Job]:
        """Every run of the experiment, row by row and seed by seed."""
        return [
            Job(index, row.label, seed, (*self.base, *row.overrides, f"seed={seed}"))
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
        raise UsageError(f"{path}: not valid YAML: {error}") from error


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


def _rows(fields: Fields, seeds: tuple[int, ...]) -> tuple[ExperimentRow, ...]:
    raw = fields.get("rows")
    if not isinstance(raw, list) or not raw:
        raise fields.error("rows", "must list at least one row, for example {label: Mamba, overrides: [model=unet]}")
    rows: list[ExperimentRow] = []
    for number, item in enumerate(raw, start=1):
        row = Fields(item, f"{fields.where}: row {number}")
        row.check_keys(_ROW_KEYS)
        label = row.text("label")
        if label in (other.label for other in rows):
            raise row.error("label", f"repeats '{label}': rows of one table need different labels")
        rows.append(ExperimentRow(label, _overrides(row, "overrides"), row.integer_list("seeds") or seeds))
    return tuple(rows)


def _overrides(fields: Fields, name: str) -> tuple[str, ...]:
    overrides = fields.text_list(name)
    for override in overrides:
        if not _OVERRIDE.fullmatch(override):
            raise fields.error(name, f"holds '{override}', which is not an override like 'model=unet'")
        if re.match(r"\+{0,2}seed=", override):
            raise fields.error(name, f"sets '{override}': list seeds under 'seeds', so that the table counts them")
    return overrides


def _existing(fields: Fields, path: Path) -> Path:
    if not path.is_file():
        choices = [f"{path.parent.name}/{other.name}" for other in path.parent.glob("*.yaml")]
        raise fields.error("references", f"names {path}, which does not exist. {nearest(path.name, choices)}")
    return path

"""An experiment that profiles: a YAML file with `kind: profile`, whose rows are networks and not runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dehaze_bench.errors import UsageError
from dehaze_bench.results.experiment import KIND_PROFILE, load_yaml
from dehaze_bench.results.fields import Fields
from dehaze_bench.results.reference import ReferenceRow, ReferenceSet

_KEYS = (
    "kind",
    "name",
    "title",
    "note",
    "rows",
    "sizes",
    "sizes_cpu",
    "batch",
    "batch_cpu",
    "train",
    "columns",
    "references",
)
_ROW_KEYS = ("label", "model", "overrides", "sizes", "published", "note")


@dataclass(frozen=True)
class CostRow:
    """One network: `model` of conf/model or conf/model/backbone with overrides, and the label of its published line."""

    label: str
    model: str
    overrides: tuple[str, ...]
    sizes: tuple[int, ...]
    published: str
    note: str


@dataclass(frozen=True)
class CostExperiment:
    """A checked file; `sizes_cpu` and `batch_cpu` replace `sizes` and `batch` where there is no GPU."""

    name: str
    title: str
    note: str
    rows: tuple[CostRow, ...]
    sizes: tuple[int, ...]
    sizes_cpu: tuple[int, ...]
    batch: int
    batch_cpu: int
    train: bool
    columns: tuple[str, ...]
    references: tuple[ReferenceSet, ...]
    path: Path

    @classmethod
    def load(cls, path: Path) -> CostExperiment:
        """Read and check a file; raises `UsageError` naming what is wrong with it."""
        fields = Fields(load_yaml(path), str(path))
        if fields.raw.get("kind") != KIND_PROFILE:
            raise UsageError(f"{path} is an experiment of runs, not a profile: dehaze-bench sweep {path}")
        fields.check_keys(_KEYS)
        name = fields.text("name")
        if not re.fullmatch(r"[\w-]+", name):
            raise fields.error("name", f"must consist of letters, digits, '-' and '_', found '{name}'")
        sizes, columns = fields.integer_list("sizes"), fields.text_list("columns")
        for key, value in (("sizes", sizes), ("columns", columns)):
            if not value:
                raise fields.error(key, "must list at least one")
        if min(sizes) < 1:
            raise fields.error("sizes", f"must be pixels from 1 up, found {list(sizes)}")
        batch = _integer(fields, "batch", 1)
        references = []
        for text in fields.text_list("references"):
            if not (path.parent / text).is_file():
                raise fields.error("references", f"names {path.parent / text}, which does not exist")
            references.append(ReferenceSet.load(path.parent / text))
        return cls(
            name=name,
            title=fields.text("title") if "title" in fields.raw else name,
            note=fields.text("note").strip() if "note" in fields.raw else "",
            rows=_rows(fields, {row.label for reference in references for row in reference.rows}),
            sizes=sizes,
            sizes_cpu=fields.integer_list("sizes_cpu") or sizes,
            batch=batch,
            batch_cpu=_integer(fields, "batch_cpu", batch),
            train=fields.flag("train") if "train" in fields.raw else False,
            columns=columns,
            references=tuple(references),
            path=path,
        )

    def reference(self, row: CostRow, size: int) -> ReferenceRow | None:
        """Return what was published for a row at a size."""
        return self.published().get((row.published, size))

    def published(self) -> Mapping[tuple[str, int], ReferenceRow]:
        """Return all published lines by label and size (0 where a line has none)."""
        rows = [row for reference in self.references for row in reference.rows]
        return {(row.label, int(row.values.get("size", 0))): row for row in rows}


def _integer(fields: Fields, name: str, otherwise: int) -> int:
    value = int(fields.integer(name)) if name in fields.raw else otherwise
    if value < 1:
        raise fields.error(name, f"must be at least 1, found {value}")
    return value


def _rows(fields: Fields, labels: set[str]) -> tuple[CostRow, ...]:
    raw = fields.get("rows")
    if not isinstance(raw, list) or not raw:
        raise fields.error("rows", "must list at least one row, for example {label: Vim-Ti, model: vim_t}")
    rows: list[CostRow] = []
    for number, item in enumerate(raw, start=1):
        row = Fields(item, f"{fields.where}: row {number}")
        row.check_keys(_ROW_KEYS)
        texts = {key: row.text(key) if key in row.raw else "" for key in ("published", "note")}
        if texts["published"] and texts["published"] not in labels:
            raise row.error("published", f"names '{texts['published']}', which is in none of the references")
        label, overrides = row.text("label"), row.text_list("overrides")
        if label in (other.label for other in rows):
            raise row.error("label", f"repeats '{label}': rows of one table need different labels")
        rows.append(CostRow(label, row.text("model"), overrides, row.integer_list("sizes"), **texts))
    return tuple(rows)

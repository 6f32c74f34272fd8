"""Published numbers, typed in with their protocol and their source, to stand beside our own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from dehaze_bench.results.experiment import load_yaml
from dehaze_bench.results.fields import Fields

PROVENANCES = ("read", "table-image", "second-hand", "unverified")
_KEYS = ("dataset", "note", "macs_size", "rows")
_TEXT_KEYS = ("label", "protocol", "source", "provenance", "note")


@dataclass(frozen=True)
class ReferenceRow:
    """One published line: `values` maps table columns (metrics, params, macs) to numbers.

    `provenance` says how the number came here: "read" in the paper or in the text of its repository,
    "table-image" from a table or figure that the authors committed, "second-hand" from somebody else's table,
    "unverified" otherwise. `note` says where other sources print another number for the same thing.
    """

    label: str
    values: dict[str, float]
    testset: str
    protocol: str
    source: str
    provenance: str
    note: str = ""


@dataclass(frozen=True)
class ReferenceSet:
    """A file of published numbers on one test set; `macs_size` (height, width) holds for all its MACs."""

    testset: str
    note: str
    macs_size: tuple[int, int] | None
    rows: tuple[ReferenceRow, ...]

    def only(self, source: str | None) -> ReferenceSet:
        """Keep the rows whose source begins with a text, such as the name of one paper."""
        return (
            self if source is None else replace(self, rows=tuple(r for r in self.rows if r.source.startswith(source)))
        )

    @classmethod
    def load(cls, path: Path) -> ReferenceSet:
        """Read and check a file of references; raises UsageError naming the file, the row and the field."""
        fields = Fields(load_yaml(path), str(path))
        fields.check_keys(_KEYS)
        testset = fields.text("dataset")
        raw = fields.get("rows")
        if not isinstance(raw, list) or not raw:
            raise fields.error("rows", "must list at least one row")
        return cls(
            testset=testset,
            note=fields.text("note").strip() if "note" in fields.raw else "",
            macs_size=fields.size("macs_size"),
            rows=tuple(_row(item, f"{path}: row {number}", testset) for number, item in enumerate(raw, start=1)),
        )


def _row(raw: object, where: str, testset: str) -> ReferenceRow:
    fields = Fields(raw, where)
    label, protocol, source = (fields.text(name) for name in _TEXT_KEYS[:3])
    values = {name: fields.number(name) for name in fields.raw if name not in _TEXT_KEYS}
    if not values:
        raise fields.error("label", f"'{label}' has no number beside it")
    provenance = fields.one_of("provenance", PROVENANCES)
    note = fields.text("note").strip() if "note" in fields.raw else ""
    return ReferenceRow(label, values, testset, protocol, source, provenance, note)

"""Which rows of a table are shown, and in which order: conditions and sorting by anything that a row knows."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.results.cells import Row
from dehaze_bench.results.experiment import COST_COLUMNS

Value = float | str | None
JUDGED = ("verdict", "difference", "p")  # what only a comparison knows
_CONDITION = re.compile(r"\s*([^=<>!]+?)\s*(<=|>=|!=|=|<|>)(.*)", re.DOTALL)
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([kMGT]?)B?")
_FACTORS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_TEXTS: dict[str, Callable[[Row], Value]] = {
    "label": lambda row: row.label,
    "kind": lambda row: row.kind,
    "testset": lambda row: row.group.testset if row.group else None,
    "protocol": lambda row: row.group.protocol if row.group else None,
    "select": lambda row: row.group.select if row.group else None,
    "verdict": lambda row: row.comparison.verdict if row.comparison else None,
}
_NUMBERS: dict[str, Callable[[Row], Value]] = {
    "n": lambda row: float(row.done) if row.planned else None,
    "difference": lambda row: row.comparison.difference if row.comparison else None,
    "p": lambda row: row.comparison.adjusted if row.comparison else None,
}


@dataclass(frozen=True)
class Condition:
    """One condition on a column, such as `mixer=mamba`, `label=Vim*`, `params<1M` or `psnr>=20`."""

    column: str
    operator: str
    text: str

    def __str__(self) -> str:
        return f"{self.column}{self.operator}{self.text}"

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read COLUMN=VALUE, with <, >, <=, >= or != for the sign; raises `UsageError` for anything else."""
        match = _CONDITION.fullmatch(text)
        if not match:
            raise UsageError(f"--where {text}: write COLUMN=VALUE, COLUMN<VALUE or COLUMN>VALUE, such as 'params<1M'.")
        found = cls(match[1], match[2], match[3].strip())
        if found.operator not in ("=", "!=") and number_of(found.text) is None:
            raise UsageError(f"--where {text}: '{found.text}' is not a number such as 20, 1.5e6 or 1.5M.")
        return found

    def holds(self, value: Value) -> bool:
        """Whether a value fulfils it; a row without one fulfils none."""
        if value is None:
            return False
        number = number_of(self.text)
        if isinstance(value, str) or number is None:
            same = _alike(str(value), self.text)
            return same if self.operator == "=" else self.operator == "!=" and not same
        tests = {
            "=": math.isclose(value, number, rel_tol=1e-9),
            "!=": not math.isclose(value, number, rel_tol=1e-9),
            "<": value < number,
            "<=": value <= number,
            ">": value > number,
            ">=": value >= number,
        }
        return tests[self.operator]


@dataclass(frozen=True)
class View:
    """How a table is to be looked at, where it differs from what the experiment says.

    `sort` may begin with '-' for backwards; `ranks` asks for a test over all rows even without a baseline.
    """

    sort: str | None = None
    where: tuple[Condition, ...] = ()
    baseline: str | None = None
    compare: str | None = None
    ranks: bool = False


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Everything by which these rows can be sorted and chosen."""
    cells = [cell.column for row in rows for cell in row.cells]
    choices = [name for row in rows for name in row.choices]
    short = [name.rpartition("/")[2] for name in choices]
    return list(dict.fromkeys([*cells, *_TEXTS, *_NUMBERS, *short, *choices]))


def value_of(row: Row, column: str) -> Value:
    """What a row has in a column: a number, a text (labels, choices such as mixer or scan), or None."""
    for cell in row.cells:
        if cell.column == column:
            return cell.value
    for known in (_TEXTS, _NUMBERS):
        if column in known:
            return known[column](row)
    return next((text for name, text in row.choices.items() if column in (name, name.rpartition("/")[2])), None)


def choose(rows: Sequence[Row], conditions: Sequence[Condition]) -> list[bool]:
    """Which rows fulfil all conditions.

    Raises:
        UsageError: a column that no row knows (names the nearest), or a condition that no row fulfils.
    """
    known = columns_of(rows)
    kept = [True] * len(rows)
    for condition in conditions:
        check_column(condition.column, known, "--where")
        values = [value_of(row, condition.column) for row in rows]
        holds = [condition.holds(value) for value in values]
        if not any(holds):
            texts = {value for value in values if isinstance(value, str)}
            raise UsageError(
                f"no row has {condition}. " + (nearest(condition.text, texts) if texts else _range(values))
            )
        kept = [keep and hold for keep, hold in zip(kept, holds, strict=True)]
    if not any(kept):
        raise UsageError(f"no row fulfils all of: {', '.join(map(str, conditions))}.")
    return kept


def sort_rows(rows: Sequence[Row], column: str | None, higher: bool | None = None) -> list[Row]:
    """Best first by a column (costs and p upwards, texts by alphabet), rows without a value last; `-column` reverses.

    `higher` is for rows that do not know which way their column is better (printed ones); where nobody knows,
    the order stays as it is.
    """
    if column is None:
        return list(rows)
    backwards, column = column.startswith("-"), column.removeprefix("-")
    values = [value_of(row, column) for row in rows]
    metric = column in {cell.column for row in rows for cell in row.cells} and column not in COST_COLUMNS
    if metric:
        cells = [cell for row in rows for cell in row.cells if cell.column == column]
        higher = next((cell.higher for cell in cells if cell.higher is not None), higher)
        if higher is None:
            return list(rows)
    elif column == "difference":
        higher = next((row.comparison.higher for row in rows if row.comparison), True)
    else:
        higher = column == "n"
    having = [i for i, value in enumerate(values) if value is not None and value == value]
    lacking = [row for i, row in enumerate(rows) if i not in set(having)]
    order = sorted(having, key=lambda i: _key(values[i], higher is True))
    return [rows[i] for i in (reversed(order) if backwards else order)] + lacking


def check_column(column: str, known: Sequence[str], option: str) -> None:
    """Raise `UsageError`, naming the nearest, for a column that is not known."""
    if column not in known:
        raise UsageError(f"{option}: no column '{column}'. {nearest(column, known)}")


def number_of(text: str) -> float | None:
    """Read a number with or without an SI prefix ('1.5M'); None for a text that is none."""
    if text.strip() in ("inf", "-inf"):
        return float(text)
    match = _NUMBER.fullmatch(text.strip())
    return float(match[1]) * _FACTORS[match[2]] if match else None


def _alike(value: str, pattern: str) -> bool:
    return value == pattern or fnmatch.fnmatchcase(value.casefold(), pattern.casefold())


def _key(value: Value, higher: bool) -> tuple[float, str]:
    if isinstance(value, str):
        return 0.0, value.casefold()
    assert value is not None
    return (-value if higher else value), ""


def _range(values: Sequence[Value]) -> str:
    numbers = [value for value in values if isinstance(value, float)]
    return f"The column goes from {min(numbers):g} to {max(numbers):g}." if numbers else "The column is empty."

"""The outcome of a verification: rows, what could not be checked, and the exit code; a table or JSON."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from dehaze_bench.verify.compare import Row

# A fixture with more rows than this shows its failures and its worst row only.
SHOWN = 12


@dataclass(frozen=True)
class Report:
    """Rows of all fixtures in order, and (fixture, message) for each that could not be checked."""

    rows: tuple[Row, ...]
    problems: tuple[tuple[str, str], ...]

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if not row.ok]

    @property
    def exit_code(self) -> int:
        """0 where all agrees; 1 where something differs; 2 where nothing differs, but not all was checked."""
        if self.failed:
            return 1
        return 2 if self.problems or not self.rows else 0


def render(report: Report, width: int = 120) -> str:
    """Return the table that a terminal shows, with the verdict below it."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("fixture")
    table.add_column("array", overflow="fold")
    table.add_column("error", justify="right")
    table.add_column("tolerance", justify="right")
    table.add_column("", overflow="fold")
    for fixture in dict.fromkeys(row.fixture for row in report.rows):
        rows = [row for row in report.rows if row.fixture == fixture]
        shown = rows
        if len(rows) > SHOWN:
            worst = max(rows, key=_closeness)
            shown = [row for row in rows if not row.ok or row is worst]
        for row in shown:
            verdict = "ok" if row.ok else "DIFFERS"
            text = f"{verdict} {row.note}".rstrip()
            table.add_row(row.fixture, row.array, f"{row.error:.2e}", f"{row.tolerance:.0e}", text)
        if len(shown) < len(rows):
            table.add_row(fixture, f"and {len(rows) - len(shown)} more", "", "", "ok, all closer")
    stream = io.StringIO()
    if report.rows:
        Console(file=stream, width=width, highlight=False).print(table)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    lines += [f"not checked: {fixture}: {message}" for fixture, message in report.problems]
    return "\n".join([*lines, "", _verdict(report)]).lstrip("\n")


def to_json(report: Report) -> str:
    """Return the report as JSON; an infinite error is null, since JSON has no infinity."""
    rows = [
        {
            "fixture": row.fixture,
            "array": row.array,
            "error": row.error if math.isfinite(row.error) else None,
            "tolerance": row.tolerance,
            "measure": row.measure,
            "ok": row.ok,
            "note": row.note,
        }
        for row in report.rows
    ]
    problems = [{"fixture": fixture, "message": message} for fixture, message in report.problems]
    return json.dumps({"exit_code": report.exit_code, "rows": rows, "problems": problems}, indent=1)


def _closeness(row: Row) -> float:
    """Return how much of its tolerance a row uses; where the tolerance is zero any error uses all of it."""
    if row.tolerance > 0:
        return row.error / row.tolerance
    return math.inf if row.error > 0 else 0.0


def _verdict(report: Report) -> str:
    num_agree = len(report.rows) - len(report.failed)
    fixtures = _count(len({row.fixture for row in report.rows}), "fixture")
    verdict = f"{num_agree} of {_count(len(report.rows), 'array')} agree in {fixtures}"
    if report.problems:
        verdict += f"; {_count(len(report.problems), 'fixture')} could not be checked"
    return verdict + "."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

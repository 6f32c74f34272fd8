"""The undisturbed run that every fault is compared with, and the table of what happened."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

import pytest

from tests.faults import runs

HEAD = ("fault", "what happened", "exit code", "lost", "seconds")


@dataclass(frozen=True)
class Row:
    """One fault: what happened, how the process ended, what was lost, and how long it took with the recovery."""

    fault: str
    happened: str
    code: str
    lost: str
    seconds: float


Note = Callable[[str, str, object, str, float], None]
_rows: list[Row] = []
_place: list[Path] = []


@pytest.fixture(scope="session")
def note(tmp_path_factory: pytest.TempPathFactory) -> Note:
    """Add a row to the table of faults; the file is $FAULTS_TABLE, or faults.md in pytest's folder."""
    _place.append(Path(os.environ.get("FAULTS_TABLE") or tmp_path_factory.getbasetemp() / "faults.md"))

    def add(fault: str, happened: str, code: object, lost: str, seconds: float) -> None:
        _rows.append(Row(fault, happened, str(code), lost, seconds))

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _rows:
        return
    lines = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    for row in _rows:
        *texts, seconds = astuple(row)
        cells = [text.replace("|", "\\|").replace("\n", " ") for text in texts]
        lines.append(f"| {' | '.join(cells)} | {seconds:.1f} |")
    _place[0].write_text("\n".join(lines) + "\n", encoding="utf-8")
    terminalreporter.section("faults")
    terminalreporter.write_line("\n".join([*lines, "", f"written to {_place[0]}"]))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of the undisturbed run."""
    root = tmp_path_factory.mktemp("whole")
    runs.finish(runs.arguments(root))
    return runs.folder_of(root)

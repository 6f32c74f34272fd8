"""The verb `report`: a folder of runs, and the experiments that are named, as static pages."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dehaze_bench import arguments, registry
from dehaze_bench.arguments import Arguments
from dehaze_bench.errors import BenchError, UsageError
from dehaze_bench.results.record import RunRecord
from dehaze_bench.results.reference import ReferenceSet
from dehaze_bench.results.report.board import Board
from dehaze_bench.results.report.everything import tabulate
from dehaze_bench.results.report.site import ScanShown, write_report
from dehaze_bench.results.store import Store, StoredRun
from dehaze_bench.track.pictures import error_map

if TYPE_CHECKING:
    from dehaze_bench.scans.catalogue import Entry


def run(argv: Arguments) -> int:
    """Do the verb: read the runs, write the report, say where it is."""
    out, argv = arguments.option(argv, "--out")
    overrides = [text for text in argv if "=" in text or text.startswith(("-", "~"))]
    arguments.only_overrides("report", overrides)
    names = [text for text in argv if text not in overrides]
    folder = Path(names[0] if names else "runs")
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder of runs. Name the folder first: dehaze-bench report runs/ [EXPERIMENT ...]"
        )
    started = time.perf_counter()
    store = Store(folder)
    runs = store.runs()
    if not runs:
        raise UsageError(f"There are no runs under {folder}: dehaze-bench train makes one, or name another folder.")
    boards = _experiments(folder, names[1:], overrides)
    boards += _others(runs, store, boards)
    written = write_report(Path(out or "report"), runs, boards, _scans(runs), error_map)
    states = ", ".join(f"{number} {state}" for state, number in written.states.items())
    seconds = time.perf_counter() - started
    print(f"{written.index}  {states}; {written.num_files} files, {written.num_bytes / 1e6:.1f} MB, {seconds:.1f} s")
    return 0


def _experiments(folder: Path, names: Sequence[str], overrides: Sequence[str]) -> list[Board]:
    if not names:
        return []
    from dehaze_bench import sweep

    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    boards = []
    for name in names:
        plan = sweep.plan(name, [f"paths.runs='{quoted}'", *overrides])
        boards.append(Board(sweep.table_of(plan), plan.experiment.compare, plan.experiment.unit))
    return boards


def _others(runs: Sequence[StoredRun], store: Store, boards: Sequence[Board]) -> list[Board]:
    """Tables of all runs on a test set under a protocol, but for those that experiments show in full."""
    testsets = {run.record.evaluation.testset for run in runs if run.record}
    published = [ReferenceSet.load(path) for path in registry.find_references()]
    shown = {run for board in boards for run in _runs(board)}
    tables = tabulate(runs, store, [each for each in published if each.testset in testsets])
    return [board for board in map(Board, tables) if not _runs(board) <= shown]


def _runs(board: Board) -> set[str]:
    return {run for row in board.table.rows for cell in row.cells for run in cell.runs}


def _scans(runs: Iterable[StoredRun]) -> list[ScanShown]:
    """The scans of the runs, drawn; one whose picture cannot be made says why."""
    used: dict[tuple[str, str], list[RunRecord]] = {}
    for run in runs:
        if run.record is not None and "_target_" in (run.record.config.get("scan") or {}):
            key = (run.record.choices.get("scan", "scan"), json.dumps(run.record.config["scan"], sort_keys=True))
            used.setdefault(key, []).append(run.record)
    shown = []
    for (name, node), records in sorted(used.items()):
        who = tuple(dict.fromkeys(" ".join(_mixed(record)) for record in records))
        shown.append(_show_scan(name, json.loads(node), who))
    return shown


def _mixed(record: RunRecord) -> list[str]:
    return [record.choices[key] for key in ("model", "model/mixer") if key in record.choices]


def _show_scan(name: str, node: object, who: tuple[str, ...]) -> ScanShown:
    from dehaze_bench.scans import catalogue, sheet

    description = registry.list_choices("scan").get(name, "")
    if strangers := sorted(set(_targets(node)) - _known_targets()):
        return ScanShown(
            name, description, "", who, None, f"Not drawn: {', '.join(strangers)} is in no conf/scan here."
        )
    try:
        entry = catalogue.from_node(name, node, description)
        grid = entry.default(catalogue.COMPARED) if entry.walks else catalogue.COMPARED[2]
        facts = "" if entry.is_dynamic else f"On {sheet.form(grid)}: {sheet.facts(entry, entry.measure(grid))}"
        picture, remark = _draw(entry, grid)
    except BenchError as error:
        return ScanShown(name, description, "", who, None, str(error))
    if entry.is_dynamic and picture is not None:
        remark = "Its order is found in every forward pass; this is one example."
    return ScanShown(name, description.rstrip("."), facts, who, picture, remark)


def _targets(node: object) -> Iterator[str]:
    """What a scan's config names to be imported, but for what is part of this package."""
    if isinstance(node, dict):
        target = str(node.get("_target_", "dehaze_bench."))
        if not target.startswith("dehaze_bench."):
            yield target
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _targets(item)


def _known_targets() -> set[str]:
    """What the scans on this machine name: a run that somebody else made must not choose what is imported here."""
    paths = [path for folder in registry.conf_dirs() for path in (folder / "scan").glob("*.yaml")]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in paths]
    return {found for text in texts for found in re.findall(r"_target_: *['\"]?([\w.]+)", text)}


def _draw(entry: Entry, grid: tuple[int, ...]) -> tuple[bytes | None, str]:
    from dehaze_bench.scans import page

    try:
        routes = page.example(entry, grid) if entry.is_dynamic else entry.routes(grid)
        return page.small_png(routes, grid), ""
    except UsageError as error:  # without matplotlib the rest of the report is still worth having
        return None, str(error)

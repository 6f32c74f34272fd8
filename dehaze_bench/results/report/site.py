"""Write the report: an index, a page per run, and beside them data, pictures and the scripts that they use."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from dehaze_bench import __version__
from dehaze_bench.errors import UsageError
from dehaze_bench.results.figures import decimals, figure, p_text, signed, title
from dehaze_bench.results.report.album import Album, ErrorMap
from dehaze_bench.results.report.board import Board, BoardView, view_board
from dehaze_bench.results.report.gathering import RunPage, gather, name_pages, shorten
from dehaze_bench.results.report.matrix import compare_all
from dehaze_bench.results.store import StoredRun

HERE = Path(__file__).parent
# Lists every file of a report, so that the next one over it takes away what is gone, and nothing else.
MANIFEST = "report.json"
DIGITS = 6  # of a value per image; `per_image.csv` has all


@dataclass(frozen=True)
class ScanShown:
    """A scan that runs used, under one set of its settings: what it is, its numbers in words, its picture as PNG."""

    name: str
    description: str
    facts: str
    used_by: tuple[str, ...]
    picture: bytes | None
    remark: str = ""


@dataclass(frozen=True)
class Written:
    """What a report came to: runs by state, files and bytes (pictures that are linked to a run count in full)."""

    index: Path
    states: dict[str, int]
    num_files: int
    num_bytes: int


def write_report(
    out: Path, runs: Sequence[StoredRun], boards: Sequence[Board], scans: Sequence[ScanShown], error_map: ErrorMap
) -> Written:
    """Write the report of `runs` into `out`, which is made, or was made by an earlier call.

    The same runs give the same bytes. `error_map` draws the difference of a restored and a clear picture.

    Raises:
        UsageError: `out` holds something else, or cannot be written.
    """
    before = _open(out)
    try:
        return _Site(out, error_map, before).write(runs, boards, scans)
    except OSError as error:
        raise UsageError(f"The report cannot be written to {out}: {error.strerror or error}.") from error


def _open(out: Path) -> set[str]:
    """Make the folder or recognise a report in it; the files that the report consists of."""
    try:
        manifest = out / MANIFEST
        if manifest.is_file():
            listed = json.loads(manifest.read_text(encoding="utf-8"))["files"]
            return {name for name in listed if isinstance(name, str)}
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"{out} exists and is no report: name a new folder with --out, or empty this one.")
        out.mkdir(parents=True, exist_ok=True)
        manifest.write_bytes(_manifest(()))  # at once: a report that was broken off can be written again
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{out} cannot hold a report: {error}. Name another folder with --out.") from error
    return set()


class _Site:
    """The folder while it is written: which files it is made of."""

    def __init__(self, out: Path, error_map: ErrorMap, before: set[str]) -> None:
        self.out = out
        self.before = before
        self.files: set[str] = {MANIFEST}
        self.album = Album(out, error_map)
        self.labels: dict[str, str] = {}
        self.pictures: dict[str, dict[str, list[tuple[str, str, str]]]] = {}
        self.templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters |= {"figure": lambda value, column: figure(column, value), "title": title}
        self.templates.filters |= {"signed": lambda value, column: signed(column, value), "p_text": p_text}
        self.templates.globals["version"] = __version__

    def write(self, runs: Sequence[StoredRun], boards: Sequence[Board], scans: Sequence[ScanShown]) -> Written:
        for path in sorted((HERE / "static").rglob("*")):
            if path.is_file():
                self.put(f"static/{path.relative_to(HERE / 'static').as_posix()}", path.read_bytes())
        self.labels = _name_runs(boards)
        pages = []
        for key, run in zip(name_pages(runs), runs, strict=True):
            pages.append(self.write_run(gather(key, run)))
        by_id = {page.run.id: page for page in pages if page.run.record}
        folders = {page.run.id: page.run.path for page in pages if page.run.record}
        views = []
        for number, board in enumerate(boards, start=1):
            found, problems = compare_all(board.table, board.metric, board.unit, folders)
            for root in {path.parent for path in folders.values()}:
                problems = [shorten(problem, root) for problem in problems]
            views.append(view_board(f"table-{number}", board, by_id, found, problems))
        self.put_data("data/pictures.js", self.pictures)
        self.write_index(pages, views, scans)
        return self.close(pages)

    def write_run(self, page: RunPage) -> RunPage:
        """Write page and data of one run; of what was read only what the index needs is kept."""
        problems = list(page.problems)
        shown = self.album.collect(page.run, problems)
        problems = [shorten(problem, page.run.path) for problem in problems]
        record = page.run.record
        columns: dict[str, bool | None] = {}
        if record:
            columns |= {name: value.higher for name, value in record.evaluation.metrics.items()}
        columns |= {name: None for image in page.images[:1] for name in image.values if name not in columns}
        place = _place(page.run)
        for picture in shown:
            self.pictures.setdefault(place, {}).setdefault(picture.name, []).append(
                (f"{self.labels.get(page.run.id, page.run.slug)}, {page.run.id}", picture.restored, page.key)
            )
        data = {
            "place": place,
            "columns": [
                {"name": name, "title": title(name), "higher": higher, "decimals": decimals(name)}
                for name, higher in columns.items()
            ],
            "images": [[image.name, *(_short(image.values.get(name)) for name in columns)] for image in page.images],
            "pictures": [asdict(picture) for picture in shown],
            "curves": {name: [curve.steps, curve.values] for name, curve in page.curves.items()},
        }
        self.put_data(f"data/{page.key}.js", data)
        self.put_page(
            f"runs/{page.key}.html",
            "run.html",
            root="../",
            page=page,
            run=page.run,
            record=record,
            problems=problems,
            pictures=shown,
            columns=columns,
        )
        return RunPage(page.key, page.run, (), {}, "", page.env, "", tuple(problems))

    def write_index(self, pages: Sequence[RunPage], boards: Sequence[BoardView], scans: Sequence[ScanShown]) -> None:
        pictures = {}
        for scan in scans:
            if scan.picture is not None:
                name = f"scans/{hashlib.sha256(scan.picture).hexdigest()[:16]}.png"
                self.put(name, scan.picture)
                pictures[scan] = name
        for board in boards:
            self.put_data(f"data/{board.key}.js", board.facts)
        self.put_page(
            "index.html",
            "index.html",
            root="",
            pages=pages,
            boards=boards,
            scans=[(scan, pictures.get(scan, "")) for scan in scans],
            states=count_states(page.run for page in pages),
        )

    def close(self, pages: Sequence[RunPage]) -> Written:
        """Take away what an earlier report had and this one lacks, and list what there is."""
        self.files |= self.album.files
        root = self.out.resolve()
        for name in sorted(self.before - self.files):
            path = self.out / name
            if path.is_file() and path.resolve().parent.is_relative_to(root):
                path.unlink()
        self.put(MANIFEST, _manifest(self.files))
        sizes = [(self.out / name).stat().st_size for name in self.files]
        return Written(self.out / "index.html", count_states(p.run for p in pages), len(sizes), sum(sizes))

    def put_page(self, name: str, template: str, **values: Any) -> None:
        self.put(name, self.templates.get_template(template).render(**values).encode())

    def put_data(self, name: str, data: Mapping[str, Any]) -> None:
        """Write data as a classic script: pages that are opened from the disk may load no JSON and no modules."""
        text = json.dumps(data, separators=(",", ":"), allow_nan=False)
        key = json.dumps(Path(name).stem)
        self.put(name, f"(window.dehazeData = window.dehazeData || {{}})[{key}] = {text};\n".encode())

    def put(self, name: str, data: bytes) -> None:
        path = self.out / name
        self.files.add(name)
        if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _manifest(files: Iterable[str]) -> bytes:
    text = json.dumps({"made_by": f"dehaze-bench {__version__}", "files": sorted(files)}, indent=1)
    return f"{text}\n".encode()


def count_states(runs: Iterable[StoredRun]) -> dict[str, int]:
    """How many runs are in each state, done first."""
    states = [run.state for run in runs]
    known = dict.fromkeys(["done", *sorted(states)])
    return {state: states.count(state) for state in known if state in states}


def _name_runs(boards: Sequence[Board]) -> dict[str, str]:
    """The label of the row that a run stands in; the first table that has it decides."""
    found: dict[str, str] = {}
    for row in (row for board in boards for row in board.table.rows):
        for run in (run for cell in row.cells for run in cell.runs):
            found.setdefault(run, row.label)
    return found


def _place(run: StoredRun) -> str:
    """What the pictures of two runs must share before they may be laid over each other."""
    return f"{run.record.evaluation.testset}, {run.record.evaluation.protocol}" if run.record else ""


def _short(value: float | None) -> float | str | None:
    if value is None:
        return None
    return round(value, DIGITS) if math.isfinite(value) else str(value)

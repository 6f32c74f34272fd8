"""`dehaze-bench data verify NAME ...`: find and name what could silently be wrong with data sets on disk."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dehaze_bench.arguments import Arguments, flag, integer, option
from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.registry import cache_dir, find_choice, list_choices

if TYPE_CHECKING:
    from dehaze_bench.data.inspection_packed import Copy
    from dehaze_bench.data.inspection_report import Finding
    from dehaze_bench.data.inspection_subjects import Subject

PARTS = {"dataset": "train", "testset": "test"}
# What `find_pairs` says of a set that is not under the root at all; all else is a fault of a set that is.
_ABSENT = re.compile(r"no known layout|does not exist|not there to verify")


def run(argv: Arguments) -> int:
    """Inspect the named sets, print and write the reports; 1 where something was found."""
    from dehaze_bench.data.inspection import SAMPLE, inspect
    from dehaze_bench.data.inspection_files import Memory, Workers, count_cores
    from dehaze_bench.data.inspection_packed import inspect_copy
    from dehaze_bench.data.inspection_report import to_html, to_json, to_text

    root, argv = option(argv, "--root")
    json_file, argv = option(argv, "--json")
    html_file, argv = option(argv, "--html")
    num_workers, argv = option(argv, "--workers")
    sample, argv = option(argv, "--sample")
    fresh, argv = flag(argv, "--fresh")
    num = _at_least(num_workers, "--workers", 1, min(count_cores(), 16))
    pairs = _at_least(sample, "--sample", 0, SAMPLE)
    names, overrides = _split(argv)
    root = root or os.environ.get("DEHAZE_DATA") or "data"
    subjects, copies, absent, broken = _gather(names, root, overrides)
    path = _memory_path(root)
    if fresh:
        path.unlink(missing_ok=True)
    with Workers(num, Memory(path)) as workers, _progress() as progress:
        report = inspect(subjects, str(Path(root).expanduser().absolute()), workers, pairs, progress)
        for copy in copies:
            summary, findings, notes = inspect_copy(copy, num, progress)
            report.summaries += [summary] if summary is not None else []
            report.findings += findings
            report.notes += notes
    report.findings[:0], report.notes[:0] = broken, absent
    print(to_text(report), end="")
    for file, text in ((json_file, to_json), (html_file, to_html)):
        if file is not None:
            _write(Path(file), text(report))
    return 1 if report.findings else 0


def _split(argv: Arguments) -> tuple[list[str], list[str]]:
    names = [text for text in argv if not text.startswith("-") and "=" not in text]
    options = [text for text in argv if text.startswith("-")]
    if options:
        known = ("--root", "--json", "--html", "--workers", "--sample", "--fresh")
        raise UsageError(f"Unknown option '{options[0]}' of data verify. {nearest(options[0], known)}")
    known_names = sorted({name for group in PARTS for name in list_choices(group)})
    if not names:
        raise UsageError(f"data verify needs the name of a data set. {nearest('', known_names)}")
    for name in names:
        if name not in known_names:
            raise UsageError(f"Unknown data set '{name}'. {nearest(name, known_names)}")
    return list(dict.fromkeys(names)), [text for text in argv if "=" in text]


def _gather(
    names: list[str], root: str, overrides: list[str]
) -> tuple[list[Subject], list[Copy], list[Finding], list[Finding]]:
    """Return (the parts that lie under the root, their packed copies, notes on the parts that do not, findings on
    those that cannot be read).

    Raises `UsageError` for a set of which no part is there.
    """
    from dehaze_bench.data.inspection_packed import find_copies
    from dehaze_bench.data.inspection_report import Finding
    from dehaze_bench.data.inspection_subjects import gather

    subjects: list[Subject] = []
    copies: list[Copy] = []
    absent: list[Finding] = []
    broken: list[Finding] = []
    for name in names:
        parts: list[Subject] = []
        packed: list[Copy] = []
        errors: list[UsageError] = []
        for group, role in PARTS.items():
            if name not in list_choices(group) or not _is_given(group, name, overrides):
                continue
            node = _compose(group, name, root, overrides)
            margin = 10 if node.get("crop") == "centre10" else 0
            where_from = Path(str(node.get("root", root))).expanduser()
            try:
                parts.append(gather(name, role, _arguments(group, name, node, role), margin))
                packed += find_copies(name, role, where_from, margin, parts[-1])
            except UsageError as error:
                alone = find_copies(name, role, where_from, margin)
                packed += alone
                if alone:
                    continue
                errors.append(error)
                kind, where = ("not there", absent) if _ABSENT.search(str(error)) else ("layout", broken)
                where.append(Finding(kind, f"{name} ({role})", str(error)))
        copies += packed
        if not parts and not packed and not errors:
            raise UsageError(f"{name}: say which folders: dataset.hazy=DIR dataset.clear=DIR.")
        if not parts and not packed and all(_ABSENT.search(str(error)) for error in errors):
            raise errors[0]
        subjects += parts
    return subjects, copies, absent, broken


def _is_given(group: str, name: str, overrides: list[str]) -> bool:
    """Whether a config says where its pictures are, or the user does."""
    return "???" not in find_choice(group, name).read_text(encoding="utf-8") or any(
        text.lstrip("+").startswith(f"{group}.") for text in overrides
    )


def _compose(group: str, name: str, root: str, overrides: list[str]) -> dict[str, Any]:
    from dehaze_bench.compose import compose_run

    own = [text for text in overrides if text.lstrip("+").startswith(f"{group}.")]
    cfg = compose_run([f"{group}={name}", f"paths.data={root}", *own]).cfg
    node: dict[str, Any] = {str(key): _plain(value) for key, value in cfg[group].items()}
    return node


def _plain(value: Any) -> Any:
    """Turn the lists of a config into plain ones."""
    return value if value is None or isinstance(value, (str, int, float)) else list(value)


def _arguments(group: str, name: str, node: dict[str, Any], role: str) -> dict[str, Any]:
    """Return the arguments of `find_pairs` that a config gives."""
    from dehaze_bench.data.layouts import CLEAR_FOLDERS, HAZY_FOLDERS

    if "folders" not in node:
        raise UsageError(f"{group}={name} is not read from two folders (not there to verify).")
    return {
        "name": node["name"],
        "root": node["root"],
        "folders": node["folders"],
        "hazy": node.get("hazy", HAZY_FOLDERS),
        "clear": node.get("clear", CLEAR_FOLDERS),
        "match": node.get("match", "auto"),
        "role": role,
        "split": node.get("split"),
    }


def _at_least(text: str | None, name: str, least: int, default: int) -> int:
    value = integer(text, name)
    if value is not None and value < least:
        raise UsageError(f"{name}={value} is too few: give {least} or more.")
    return default if value is None else value


def _memory_path(root: str) -> Path:
    """Return where it is remembered what was looked at under a root."""
    name = hashlib.sha256(os.fsencode(Path(root).expanduser().absolute())).hexdigest()[:16]
    return cache_dir() / "inspection" / f"{name}.jsonl"


@contextmanager
def _progress() -> Iterator[Any]:
    """Yield a function that passes records on under a bar, on a terminal.

    The bar is redrawn here and not by a thread: the workers are forked while it is up, and threads do not fork well.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, auto_refresh=False, transient=True, disable=not console.is_terminal
    ) as bar:

        def watch(what: str, records: Iterator[dict[str, Any]], num: int) -> Iterator[dict[str, Any]]:
            task = bar.add_task(what, total=num, visible=num > 0)
            drawn = 0.0
            for record in records:
                yield record
                bar.advance(task)
                if time.monotonic() - drawn > 0.1:
                    bar.refresh()
                    drawn = time.monotonic()
            bar.update(task, visible=False)

        yield watch


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"{path}: the report cannot be written ({error.strerror or error}).") from error

"""`dehaze-bench data prepare`: a packed copy of a set, for fast random crops, or a copy as PNG files."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dehaze_bench.arguments import Arguments, flag, integer, only_overrides, option
from dehaze_bench.errors import JobError, UsageError, nearest

_ROLES = ("dataset", "testset")


def run(argv: Arguments) -> int:
    """Pack or copy the sets that are named, and return 0; a picture that cannot be read ends it with exit code 1."""
    root, argv = option(argv, "--root")
    out, argv = option(argv, "--out")
    text, argv = option(argv, "--workers")
    png, argv = flag(argv, "--png")
    workers = integer(text, "--workers") if text is not None else 1
    if workers is None or workers < 1:
        raise UsageError(f"--workers {text} is no number of threads: give 1 or more.")
    names = [word for word in argv if "=" not in word and not word.startswith("-")]
    overrides = [word for word in argv if word not in names]
    only_overrides("data", overrides)
    if not names:
        raise UsageError("data prepare needs the name of a data set: dehaze-bench data prepare its.")
    known = {role: _folder_sets(role) for role in _ROLES}
    for name in names:
        if name not in known["dataset"] | known["testset"]:
            raise UsageError(
                f"data prepare {name}: no set in folders has this name. "
                + nearest(name, known["dataset"] | known["testset"])
            )
    for word in overrides:
        if not word.startswith(tuple(f"{role}." for role in _ROLES)):
            raise UsageError(f"data prepare {word}: of the config only dataset.KEY and testset.KEY can be set.")
    for name in names:
        _prepare(name, [role for role in _ROLES if name in known[role]], root, out, png, workers, overrides)
    return 0


def _folder_sets(role: str) -> set[str]:
    """Return the names of the sets whose pictures lie in folders."""
    from omegaconf import OmegaConf

    from dehaze_bench.registry import conf_dirs, list_choices

    names = set()
    for name in list_choices(role):
        file = next(path for folder in conf_dirs() if (path := Path(folder) / role / f"{name}.yaml").is_file())
        if "root" in OmegaConf.load(file):
            names.add(name)
    return names


def _prepare(
    name: str, roles: list[str], root: str | None, out: str | None, png: bool, workers: int, overrides: list[str]
) -> None:
    """Prepare the training and the test part of a set, as far as they are there."""
    absent: list[UsageError] = []
    for role in roles:
        try:
            found, origin, split = _find(role, name, root, overrides)
        except UsageError as error:
            absent.append(error)
            continue
        try:
            if png:
                _copy(role, name, found, origin, out, workers)
            else:
                _pack(role, name, found, split, out, workers)
        except UsageError as unreadable:  # the request was right, a picture is not
            raise JobError(str(unreadable)) from unreadable
    if len(absent) == len(roles):
        raise absent[0]
    for reason in absent:
        print(f"dehaze-bench: left out: {reason}", file=sys.stderr)


def _find(role: str, name: str, root: str | None, overrides: list[str]) -> tuple[Any, Path, str | None]:
    """Return the set, the data root and the split that was asked for."""
    from dehaze_bench import build
    from dehaze_bench.compose import compose_run

    chosen = [f"{role}={name}", *(word for word in overrides if word.startswith(f"{role}."))]
    if root is not None:
        quoted = str(Path(root).expanduser()).replace("\\", "\\\\").replace('"', '\\"')
        chosen.append(f'paths.data="{quoted}"')
    cfg = compose_run(chosen).cfg
    # That a copy is old or unfinished is no news to the one who makes it.
    log = logging.getLogger("dehaze_bench.data.store_finding")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        found = (build.dataset if role == "dataset" else build.testset)(cfg)
    finally:
        log.setLevel(level)
    return found, Path(cfg[role].root).expanduser(), cfg[role].get("split")


def _pack(role: str, name: str, found: Any, split: str | None, out: str | None, workers: int) -> None:
    from dehaze_bench.data.store_finding import PACKED, common_folder, copy_name
    from dehaze_bench.data.store_making import pack

    pairs = found.pairs
    base = common_folder([*pairs.hazy, *(pairs.clear or [])])
    folder = (base / PACKED if out is None else Path(out).expanduser()) / copy_name(role, name)
    with _progress(f"{role} {name}") as progress:
        done = pack(
            name, folder, base, pairs.layout, split, pairs.names, pairs.hazy, pairs.clear,
            keep_jpeg=role == "dataset", workers=workers, progress=progress,
        )  # fmt: skip
    for text in done.damaged:
        print(f"{text} It was made again.")
    print(
        f"{role} {name}: {done.pictures} pictures in {done.shards} shards, {done.bytes / 2**20:,.1f} MiB, "
        f"in {folder}; {done.kept} shards were there and agree with their checksums."
    )


def _copy(role: str, name: str, found: Any, root: Path, out: str | None, workers: int) -> None:
    from dehaze_bench.data.store_copies import copy_as_png
    from dehaze_bench.data.store_finding import common_folder, copy_name

    pairs = found.pairs
    paths = [*pairs.hazy, *(pairs.clear or [])]
    origin = root if all(path.is_relative_to(root) for path in paths) else common_folder(paths)
    paths = paths if origin == root else [path.absolute() for path in paths]
    folder = (origin / "png") if out is None else Path(out).expanduser()
    with _progress(f"{role} {name}") as progress:
        done = copy_as_png(copy_name(role, name), paths, origin, folder, workers, progress)
    for text in done.damaged:
        print(f"{text}. It was made again.")
    print(f"{role} {name}: {done.pictures} PNG files under {folder}, {done.kept} were there. Use: paths.data={folder}")


@contextmanager
def _progress(title: str) -> Iterator[Any]:
    """Show a bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)

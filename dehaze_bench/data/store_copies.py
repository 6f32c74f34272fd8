"""A copy of a set as PNG files under the same names: what no JPEG decoder can change any more.

A record beside the copies names the decoder that made them and holds the SHA-256 of each.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dehaze_bench.data.pairs import decoder, read_pixels, write_image
from dehaze_bench.data.store_making import Progress, locked, write_whole
from dehaze_bench.digest import hash_file
from dehaze_bench.errors import UsageError

FORMAT = "dehaze_bench PNG copies"
VERSION = 1


@dataclass(frozen=True)
class Copy:
    """One copied picture; `bytes` and `mtime_ns` are of its source, `sha256` is of the PNG file."""

    path: str
    source: str
    bytes: int
    mtime_ns: int
    sha256: str = ""


@dataclass(frozen=True)
class Copied:
    """What was done: `kept` of `pictures` were there, `damaged` names those that were not as recorded."""

    pictures: int
    kept: int
    damaged: tuple[str, ...]


def copy_as_png(
    record: str,
    paths: Sequence[Path],
    origin: Path,
    out: Path,
    workers: int = 1,
    progress: Progress = lambda done, of: None,
) -> Copied:
    """Copy pictures to the same place under `out` that they have under `origin`; what is there already is kept.

    JPEG files are decoded once; the bytes of PNG files stay. `out/<record>.json` says what was copied and by which
    decoder. Raises UsageError for a picture that cannot be read, and where another decoder made copies in `out`.
    """
    journal = out / f"{record}.json"
    with locked(out):
        earlier, finished = _read(journal)
        wanted = [_describe(path, origin) for path in dict.fromkeys(paths)]
        files = list(dict.fromkeys(paths))
        _enter(journal, [], complete=False)
        damaged: list[str] = []
        copies: list[Copy] = []
        kept = 0

        def keep_or_make(number: int) -> tuple[Copy, bool, str | None]:
            copy, source = wanted[number], files[number]
            target, was = out / copy.path, earlier.get(copy.path)
            if target.is_file():
                found = hash_file(target)
                if was is not None and was == replace(copy, sha256=found):
                    return was, True, None
                # Killed before the record was written: renamed files are whole, older ones may be stale.
                if not finished and target.stat().st_mtime_ns > copy.mtime_ns:
                    return replace(copy, sha256=found), True, None
                wrong = (
                    f"{target} was not as recorded" if was == replace(copy, sha256=was.sha256 if was else "") else None
                )
            else:
                wrong = None
            _make(source, target)
            return replace(copy, sha256=hash_file(target)), False, wrong

        pool = ThreadPoolExecutor(max(1, workers))
        try:
            for copy, was_there, wrong in pool.map(keep_or_make, range(len(files))):
                copies.append(copy)
                kept += was_there
                damaged += [wrong] if wrong else []
                progress(len(copies), len(files))
        finally:
            pool.shutdown(cancel_futures=True)
        _enter(journal, copies, complete=True)
    return Copied(len(copies), kept, tuple(damaged))


def _describe(path: Path, origin: Path) -> Copy:
    relative = path.relative_to(origin)
    found = path.stat()
    return Copy(relative.with_suffix(".png").as_posix(), relative.as_posix(), found.st_size, found.st_mtime_ns)


def _make(source: Path, target: Path) -> None:
    pixels = read_pixels(source)  # a damaged PNG is not copied either
    target.parent.mkdir(parents=True, exist_ok=True)
    for stray in target.parent.glob(f".{target.name}.*.tmp"):
        stray.unlink()
    if source.suffix.lower() == ".png":
        write_whole(target, lambda temporary: _copy_bytes(source, temporary))
    else:
        write_whole(target, lambda temporary: write_image(temporary, pixels))


def _copy_bytes(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _read(journal: Path) -> tuple[dict[str, Copy], bool]:
    """Return what an earlier call copied, and whether it came to its end."""
    if not journal.is_file():
        return {}, False
    try:
        found: dict[str, Any] = json.loads(journal.read_text(encoding="utf-8"))
        made_by, complete = str(found["decoder"]), bool(found["complete"])
        copies = {c["path"]: Copy(**c) for c in found["pictures"]}
        if found["format"] != FORMAT or found["version"] != VERSION:
            raise ValueError(f"format {found['format']}, version {found['version']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{journal} is no record of PNG copies ({error}). Give another place by --out DIR.") from error
    if made_by != decoder():
        raise UsageError(
            f"The copies that {journal} lists were made by {made_by}, this is {decoder()}: decoders are not mixed. "
            "Delete them, or give another place by --out DIR."
        )
    return copies, complete


def _enter(journal: Path, copies: Sequence[Copy], complete: bool) -> None:
    head = {"format": FORMAT, "version": VERSION, "decoder": decoder(), "complete": complete}
    text = json.dumps(head | {"pictures": [asdict(copy) for copy in copies]}, indent=1) + "\n"
    write_whole(journal, lambda temporary: _write_text(temporary, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

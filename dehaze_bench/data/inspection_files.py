"""Looking into single files and pairs, in processes, with a memory of what was looked at.

The workers are forked where that is possible. They decode with Pillow and compute with NumPy and SciPy's FFT;
nothing they call uses OpenMP, which does not survive a fork.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from dehaze_bench.data.inspection_alignment import align, to_grey
from dehaze_bench.data.pairs import decoder, read_pixels
from dehaze_bench.errors import BenchError, JobError

VERSION = 1  # of what is remembered
Record = dict[str, Any]
FileJob = tuple[str, int]  # path, margin that the layout may cut
PairJob = tuple[str, str, int]  # hazy, clear, pixels to cut from each side of the clear one
SceneJob = tuple[str, str, int, int]  # two pictures, pixels to cut from each side of the one and of the other
_J = TypeVar("_J")
_ENDS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}
_TAIL = 65536  # bytes: cameras write a little after the end marker


def examine(job: FileJob) -> Record:
    """Decode a file and return {size, format, digest, hashes}, or {error}.

    `hashes` holds, under the margin that was cut first, the perceptual and the difference hash as 64-bit hexadecimals.
    """
    import imagehash

    path, margin = Path(job[0]), job[1]
    try:
        pixels = read_pixels(path)
        form = _check_end(path)
    except Exception as error:  # whatever a damaged file provokes in a decoder
        return {"error": _explain(path, error)}
    height, width = pixels.shape[:2]
    hashes = {}
    for cut in sorted({0, margin}):
        if min(height, width) > 2 * cut:
            picture = Image.fromarray(pixels[cut : height - cut, cut : width - cut])
            hashes[str(cut)] = [str(imagehash.phash(picture)), str(imagehash.dhash(picture))]
    return {
        "size": [height, width],
        "format": form,
        "digest": hashlib.blake2b(pixels.tobytes() + bytes(str(pixels.shape), "ascii"), digest_size=16).hexdigest(),
        "hashes": hashes,
    }


def compare(job: PairJob) -> Record:
    """Return how a hazy picture lies on the clear one, or {error} where their sizes do not fit."""
    hazy, clear, cut = read_pixels(Path(job[0])), read_pixels(Path(job[1])), job[2]
    clear = clear[cut : clear.shape[0] - cut, cut : clear.shape[1] - cut]
    if hazy.shape != clear.shape:
        return {"error": "sizes differ"}
    return asdict(align(to_grey(hazy), to_grey(clear)))


def compare_scenes(job: SceneJob) -> Record:
    """Return how two pictures of any size lie on each other, the second brought to the size of the first."""
    one, two = (read_pixels(Path(path)) for path in job[:2])
    one, two = (p[cut : p.shape[0] - cut, cut : p.shape[1] - cut] for p, cut in ((one, job[2]), (two, job[3])))
    fitted = Image.fromarray(two).resize((one.shape[1], one.shape[0]), Image.Resampling.BILINEAR)
    return asdict(align(to_grey(one), to_grey(np.asarray(fitted))))


class Memory:
    """What was found before, by path, size and time of change: one JSON object per line, appended as it comes.

    A line that was cut off by a kill is passed over. Failures are not remembered: they are looked at again.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._known: dict[str, tuple[list[Any], Record]] = {}
        if path is not None and path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    self._known[entry["key"]] = (entry["stamp"], entry["found"])
                except (ValueError, KeyError, TypeError):
                    continue

    def get(self, key: str, stamp: list[Any]) -> Record | None:
        known = self._known.get(key)
        return known[1] if known is not None and known[0] == stamp else None

    @contextmanager
    def writing(self) -> Iterator[Callable[[str, list[Any], Record], None]]:
        """Yield a function that remembers one record and has written it when it returns."""
        if self.path is None:
            yield lambda key, stamp, found: None
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as lines:
            lines.write("\n" if lines.tell() else "")  # the last line may have been cut off

            def put(key: str, stamp: list[Any], found: Record) -> None:
                lines.write(json.dumps({"key": key, "stamp": stamp, "found": found}, separators=(",", ":")) + "\n")
                lines.flush()
                self._known[key] = (stamp, found)

            yield put


class Workers:
    """Runs a function over jobs in `num` processes (here, if 1) and leaves out those that are remembered."""

    def __init__(self, num: int, memory: Memory) -> None:
        self.memory = memory
        self.num = num
        self.looked, self.remembered = 0, 0
        forks = sys.platform == "linux" and "fork" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("fork" if forks else "spawn")
        self._pool = ProcessPoolExecutor(num, context, initializer=_start_worker) if num > 1 else None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(
        self,
        look: Callable[[_J], Record],
        jobs: Sequence[_J],
        progress: Callable[[Iterator[Record], int], Iterator[Record]],
    ) -> dict[_J, Record]:
        """Return job -> record. `progress` passes records on and may show how many there were."""
        found: dict[_J, Record] = {}
        fresh: list[tuple[_J, str, list[Any]]] = []
        for job in dict.fromkeys(jobs):
            key, stamp = _identify(look.__name__, job)
            known = self.memory.get(key, stamp)
            if known is None:
                fresh.append((job, key, stamp))
            else:
                found[job] = known
        self.looked += len(fresh)
        self.remembered += len(found)
        todo = [job for job, _, _ in fresh]
        try:
            made = map(look, todo) if self._pool is None else self._pool.map(look, todo, chunksize=4)
            with self.memory.writing() as put:
                for (job, key, stamp), record in zip(fresh, progress(iter(made), len(todo)), strict=True):
                    found[job] = record
                    if "error" not in record:
                        put(key, stamp, record)
        except BrokenProcessPool as error:
            raise JobError(
                "a worker process of data verify was ended from outside, most likely for want of memory. "
                "Start it again with fewer --workers: what was looked at is remembered."
            ) from error
        return found


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it, also when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: Any) -> None:
    parent.join()
    os._exit(1)


def count_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _identify(what: str, job: Any) -> tuple[str, list[Any]]:
    """Return the key of a job, and a stamp that changes with its files or with the decoder."""
    stamp: list[Any] = [VERSION, decoder()]
    words = [what]
    for part in job:
        if isinstance(part, str):
            words.append(os.path.abspath(part))
            try:
                status = os.stat(part)
                stamp += [status.st_size, status.st_mtime_ns]
            except OSError:
                stamp += [None, None]
        else:
            words.append(str(part))
    return "|".join(words), stamp


def _check_end(path: Path) -> str:
    """Return "PNG" or "JPEG"; raises ValueError where the end marker is missing, which decoders forgive."""
    with path.open("rb") as file:
        form = "PNG" if file.read(8) == b"\x89PNG\r\n\x1a\n" else "JPEG"
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - _TAIL))
        if _ENDS[form] not in file.read():
            raise ValueError(f"{length} bytes without the end marker of a {form}: the file is truncated")
    return form


def _explain(path: Path, error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text.removeprefix(f"{path}: ") if isinstance(error, BenchError) else text

"""Faults of the machine that a run meets, each as one sentence that names it and says what to do."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from dehaze_bench.errors import JobError

_FULL = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file would be larger than allowed",
}
_REFUSED = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "the operation is not permitted",
    errno.EIO: "the disk reports an error",
    errno.ESTALE: "the network file system has lost the file",
}
KILLED = (
    "was killed, most likely because the machine ran out of memory: lower runtime.workers, or prepare a packed copy of "
    "the data (`dehaze-bench data`), which workers share."
)


def explain(error: BaseException, folder: Path) -> JobError | None:
    """Return what `error` means to the user of a run in `folder`; None where it is not a fault of the machine."""
    for cause in _chain(error):
        number = _errno(cause)
        if number in _FULL or number in _REFUSED:
            path = getattr(cause, "filename", None) or folder
            if number in _FULL:
                return JobError(f"{path} cannot be written: {_FULL[number]}. Free space there, or set paths.runs=DIR.")
            return JobError(
                f"{path} cannot be read or written: {_REFUSED[number]}. Put it right, or set paths.runs=DIR."
            )
        if isinstance(cause, FileNotFoundError) and cause.filename:
            return JobError(f"{cause.filename} has vanished. Put it back.")
        if isinstance(cause, torch.OutOfMemoryError):
            return JobError(
                "The GPU is out of memory. Raise train.accumulate, which slices the batch, or set "
                "runtime.checkpointing=true or runtime.precision=bf16."
            )
        if type(cause).__name__ == "InvalidCxxCompiler":
            return JobError("runtime.compile=true needs a C++ compiler on the CPU: install one (g++), or leave it out.")
        if isinstance(cause, MemoryError) or "DefaultCPUAllocator: can't allocate" in str(cause):
            return JobError("This machine is out of memory. Raise train.accumulate, or lower runtime.workers.")
        if isinstance(cause, RuntimeError) and (text := _lost_worker(str(cause))) is not None:
            return JobError(text)
        if isinstance(cause, ConnectionError):  # what a worker was sending when it was killed
            return JobError(f"A data worker {KILLED}")
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from, as far as it goes."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _errno(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    told = re.search(r"\(os error (\d+)\)", str(error))  # safetensors says it in words only
    return int(told[1]) if told else None


def _lost_worker(text: str) -> str | None:
    """Return what became of a worker of the loader, from what torch says of it."""
    if not re.search(r"DataLoader worker.*(killed by signal|exited unexpectedly)", text):
        return None
    number = re.search(r"pid\(?s?\)?:? *\(?([\d, ]+)", text)
    which = f" (process {number[1].strip(' ,')})" if number else ""
    if "Bus error" in text:
        return f"A data worker{which} ran out of shared memory: enlarge /dev/shm, or set runtime.workers=0."
    return f"A data worker{which} {KILLED}"

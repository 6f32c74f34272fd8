"""The lock of a run directory: one process works in it, and the others can say which.

Two files. `lock` is held through filelock: by flock, or as a marker file where the file system has no flock.
`lock.json` names the holder, and its modification time is refreshed every `BEAT` seconds. Whether a holder lives is
judged by evidence that no wall clock can fake: on the same system by its process and the time since boot at which that
started, elsewhere by whether the file is refreshed while it is watched, for at least three beats by the watcher's
monotonic clock. A clock that jumps therefore neither steals the lock of a living process nor keeps that of a dead one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from dehaze_bench.errors import JobError

LOCK, HOLDER = "lock", "lock.json"
BEAT = 10.0  # seconds between signs of life
STALE = 180.0  # seconds without one after which a holder on another system counts as dead
PATIENCE = 1.0  # seconds in which a holder may still be letting go, or be asked about by a listing

_NO_FLOCK = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock. `boot` names the running system, `space` its process numbers, `start` is in ticks
    since boot; `token` is drawn for each time a lock is taken."""

    host: str
    pid: int
    start: int
    boot: str
    space: str
    since: str
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


class Lock:
    """A lock that this process holds; the heart beats until `release`."""

    def __init__(self, folder: Path, lock: BaseFileLock, holder: Holder) -> None:
        self.folder, self.holder = folder, holder
        self._lock, self._over = lock, threading.Event()
        self._heart = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._heart.start()

    def check(self) -> None:
        """Raise `JobError` where another process has taken this lock over: what it saves must not be written over."""
        found = _read(self.folder)
        if found is not None and found.token != self.holder.token:
            raise JobError(
                f"{self.folder} was taken over by {found}, because this process gave no sign of life for "
                f"{STALE:.0f} s. Leave the run to it."
            )

    def release(self) -> None:
        """Let go; a lock that was taken over stays with its new holder."""
        self._over.set()
        self._heart.join()
        with contextlib.suppress(OSError):
            found = _read(self.folder)
            if found is not None and found.token == self.holder.token:
                (self.folder / HOLDER).unlink()
        with contextlib.suppress(OSError):  # a folder that has vanished is free
            self._lock.release()

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with contextlib.suppress(OSError):  # a disk that is gone for a while must not stop the run
                found = _read(self.folder)
                if found is None:
                    _write(self.folder, self.holder)
                elif found.token == self.holder.token:
                    os.utime(self.folder / HOLDER)
                else:
                    return


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[Lock]:
    """Hold the lock of an existing folder. Raises `JobError` naming a living holder, `OSError` as the disk does.

    The lock of a dead process is taken over, with a line on stderr. Where only a missing heartbeat can tell, this waits
    for it: `STALE` seconds after the last one, and for three beats at least.
    """
    lock = take(folder)
    try:
        yield lock
    finally:
        lock.release()


def take(folder: Path) -> Lock:
    """Take the lock of a folder as `hold` does; the caller releases it."""
    deadline, dead = time.monotonic() + PATIENCE, ""
    while True:
        lock = _try(folder / LOCK)
        try:
            found = _read(folder)
            if found is None and lock.is_locked:
                return _own(folder, lock)
            if found is not None and (found.token == dead or not _lives(folder, found, lock)):
                if lock.is_locked or (found.token == dead and time.monotonic() > deadline):
                    return _take_over(folder, found, lock)
                if found.token != dead:  # who has the flock may be about to write its name
                    deadline, dead = time.monotonic() + PATIENCE, found.token
            elif time.monotonic() > deadline:
                if found is None and _is_leftover(folder / LOCK, lock):
                    _displace(folder)
                    continue
                raise JobError(_occupied(folder, found))
        except BaseException:
            lock.release()
            raise
        lock.release()
        time.sleep(0.05)


def describe_holder(folder: Path) -> str | None:
    """Return who works in a folder, None if nobody does. It does not wait, so a clock that jumped may mislead it."""
    found = _read(folder)
    if found is not None and _is_here(found) and os.name == "posix":
        return str(found) if _process_lives(found) else None
    if _is_flocked(folder / LOCK):
        return str(found) if found is not None else "a process that left no name"
    if found is None or found.boot == _boot():
        return None
    try:
        age = time.time() - (folder / HOLDER).stat().st_mtime
    except FileNotFoundError:
        return None
    return str(found) if abs(age) < STALE else None


def _occupied(folder: Path, found: Holder | None) -> str:
    if found is None:
        return f"Another process works on {folder}; it left no name. Wait for it or stop it."
    own = " That is this process." if _is_here(found) and found.pid == os.getpid() else ""
    return f"Another process works on {folder}: {found}.{own} Wait for it or stop it; a dead one's lock is taken over."


def _try(path: Path) -> BaseFileLock:
    """Return a lock on which one attempt was made: by flock, or by a marker where there is none."""
    kinds: tuple[type[BaseFileLock], ...] = (FileLock, SoftFileLock)
    for kind in kinds:
        lock = kind(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            pass
        except (OSError, NotImplementedError) as error:
            if kind is SoftFileLock or getattr(error, "errno", errno.ENOSYS) not in _NO_FLOCK:
                raise
            continue
        return lock
    raise AssertionError("unreachable")


def _lives(folder: Path, found: Holder, lock: BaseFileLock) -> bool:
    if _is_here(found) and os.name == "posix":
        return _process_lives(found)
    if found.boot == _boot() and not isinstance(lock, SoftFileLock):
        return not lock.is_locked  # on one kernel flock has the word, also between containers
    return _beats(folder, found)


def _beats(folder: Path, found: Holder) -> bool:
    """Watch the heartbeat of a holder on another system until it moves, or has been still for long enough."""
    path = folder / HOLDER
    before = _stamp(path)
    # The age by the clock that stamps files, not by ours. A clock that was set back makes it negative: unknown, then.
    still = max(3 * BEAT, STALE - max(0.0, _file_time(folder) - before / 1e9))
    print(f"dehaze-bench: {folder} is locked by {found}; watching its heartbeat for {still:.0f} s", file=sys.stderr)
    deadline = time.monotonic() + still
    while time.monotonic() < deadline:
        time.sleep(min(1.0, BEAT / 4))
        if _stamp(path) != before:
            return _read(folder) is not None  # let go of just now, or refreshed
    return False


def _stamp(path: Path) -> int:
    """Return the modification time in ns; opened, because a network file system then asks its server."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return -1


def _file_time(folder: Path) -> float:
    probe = folder / f".{HOLDER}.probe"
    try:
        probe.write_bytes(b"")
        os.utime(probe)
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _take_over(folder: Path, found: Holder, lock: BaseFileLock) -> Lock:
    """Put ourselves in the place of a dead holder, whose children or whose server may still hold its flock."""
    now = _read(folder)
    if now is not None and now.token != found.token:
        raise JobError(_occupied(folder, now))
    if not lock.is_locked:
        _displace(folder)
        lock = _try(folder / LOCK)
        if not lock.is_locked:
            raise JobError(_occupied(folder, _read(folder)))
    print(f"dehaze-bench: took {folder} over from {found}: it is dead", file=sys.stderr)
    return _own(folder, lock, settle=0.2)


def _own(folder: Path, lock: BaseFileLock, settle: float = 0.0) -> Lock:
    """Write our name. Who took over waits and looks again, for another that judged the same holder dead."""
    mine = Holder(
        host=socket.gethostname(),
        pid=os.getpid(),
        start=_start(os.getpid()),
        boot=_boot(),
        space=_space(),
        since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        token=secrets.token_hex(8),
    )
    _write(folder, mine)
    if settle:
        time.sleep(settle)
        now = _read(folder)
        if now is not None and now.token != mine.token:
            lock.release()
            raise JobError(_occupied(folder, now))
    return Lock(folder, lock, mine)


def _displace(folder: Path) -> None:
    """Move the lock file away: whoever holds it then guards a file without a name."""
    aside = folder / f".{LOCK}.{secrets.token_hex(4)}"
    with contextlib.suppress(FileNotFoundError):
        (folder / LOCK).rename(aside)
        aside.unlink()


def _is_leftover(path: Path, lock: BaseFileLock) -> bool:
    """Whether an empty file that flock once used stands where a marker, which is never empty, would have to be made."""
    try:
        return isinstance(lock, SoftFileLock) and path.stat().st_size == 0
    except FileNotFoundError:
        return False


def _is_flocked(path: Path) -> bool:
    """Whether a process holds the file, asked with a shared lock that is given back at once."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        import fcntl  # absent on Windows, where an interrupted run and a running one look alike

        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return False
    finally:
        os.close(handle)
    return False


def _read(folder: Path) -> Holder | None:
    try:
        raw = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        holder = Holder(**{field.name: raw[field.name] for field in fields(Holder)})
        return holder if isinstance(holder.pid, int) and isinstance(holder.start, int) else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def _write(folder: Path, holder: Holder) -> None:
    partial = folder / f".{HOLDER}.tmp"  # one name, so that a kill leaves nothing that the next holder does not replace
    partial.write_text(json.dumps(asdict(holder)) + "\n", encoding="utf-8")
    partial.replace(folder / HOLDER)


def _is_here(holder: Holder) -> bool:
    return (holder.boot, holder.space) == (_boot(), _space()) and holder.host == socket.gethostname()


def _process_lives(holder: Holder) -> bool:
    """Whether the process runs; one with its number that started at another time is a stranger, a zombie is dead."""
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return holder.start == 0 or _start(holder.pid) in (0, holder.start)


def _start(pid: int) -> int:
    """Return when a process started, in ticks since boot, -1 for a zombie; 0 where the system does not tell."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()
    except (OSError, ValueError):
        return 0
    return -1 if state in "ZX" else int(rest[18])


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""

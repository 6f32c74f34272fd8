"""Run the command line and let a fault strike this process at a chosen moment: `strike.py WHERE N ACTION -- ARGUMENTS`.

The moment is the Nth time that the process opens, renames or removes a file whose path matches the pattern WHERE, so a
seed chooses it and the code that is struck is the program as it is. ACTION is one of

    kill:MS      SIGKILL from another process, MS milliseconds after that
    SIGTERM ...  a signal to this process; SIGINTx2 sends it twice; group:SIGTERM sends it to the workers as well
    worker       SIGKILL for the data workers
    others       SIGKILL for the other processes of torchrun
    machine      SIGKILL for torchrun and all its processes, as when the machine is lost
    wait:FILE    sleep, alive, until there is a file
    run:COMMAND  a shell command
    count        nothing; the number of moments is printed at the end, to stderr

A second action after a comma strikes at the next moment of the same kind.
"""

from __future__ import annotations

import fnmatch
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

EVENTS = ("open", "os.rename", "os.remove")


def main() -> None:
    where, number, actions, dashes, *arguments = sys.argv[1:]
    assert dashes == "--"
    run(where, int(number), actions, arguments)


def run(where: str, number: int, actions: str, arguments: list[str]) -> None:
    """Do one command line in this process, with a fault in it; exits as the command line does."""
    todo = dict(enumerate(actions.split(","), start=number))
    count, me = 0, os.getpid()
    killer = make_killer(todo)

    def watch(event: str, what: tuple[object, ...]) -> None:
        nonlocal count
        if event not in EVENTS or os.getpid() != me or not isinstance(what[0], (str, bytes, os.PathLike)):
            return
        if not fnmatch.fnmatch(os.fsdecode(what[0]), where):
            return
        count += 1
        action = todo.pop(count, "")
        if action:
            strike(action, killer)

    from dehaze_bench.cli import main as command_line

    sys.addaudithook(watch)
    try:
        command_line(arguments)
    finally:
        if actions == "count":
            print(f"moments: {count}", file=sys.stderr)


def strike(action: str, killer: int | None) -> None:
    """Do what ACTION says, to this process."""
    name, _, value = action.partition(":")
    if name == "kill":
        assert killer is not None
        os.write(killer, b"now")
        if float(value) == 0:
            signal.pause()
    elif name == "group":
        os.killpg(0, signal.Signals[value])
    elif name == "worker":
        for pid in alike(os.getpid()):
            os.kill(pid, signal.SIGKILL)
    elif name in ("others", "machine"):
        torchrun = os.getppid()
        for pid in alike(torchrun) - {os.getpid()}:
            os.kill(pid, signal.SIGKILL)
        if name == "machine":
            os.kill(torchrun, signal.SIGKILL)
            os.killpg(0, signal.SIGKILL)
    elif name == "wait":
        while not Path(value).exists():
            time.sleep(0.01)
    elif name == "run":
        subprocess.run(value, shell=True, check=True)
    elif name != "count":
        for _ in range(2 if name.endswith("x2") else 1):
            os.kill(os.getpid(), signal.Signals[name.removesuffix("x2")])


def make_killer(todo: dict[int, str]) -> int | None:
    """Fork a process that kills this one when it is told to by the pipe whose end is returned."""
    kills = [action for action in todo.values() if action.startswith("kill:")]
    if not kills:
        return None
    victim = os.getpid()
    hear, tell = os.pipe()
    if os.fork() == 0:
        os.close(tell)
        if os.read(hear, 3):
            time.sleep(float(kills[0].partition(":")[2]) / 1000)
            os.kill(victim, signal.SIGKILL)
        os._exit(0)
    os.close(hear)
    return tell


def alike(parent: int) -> set[int]:
    """Return the children of a process that run the same command as this one."""
    program = Path("/proc/self/cmdline").read_bytes()
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return {int(pid) for pid in children if Path(f"/proc/{pid}/cmdline").read_bytes() == program}


if __name__ == "__main__":
    main()

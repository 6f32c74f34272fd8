"""Rows through submitit, with the parameters of Hydra's launchers for it, and with a wait that always ends.

Hydra's launchers wait for a result file and ask `sacct` whether it can still come. A job that dies without one (its
node lost, cancelled, out of memory) is then waited for without end where Slurm keeps no accounting, and raises past all
other rows where it does. Here the queue itself is asked, and a lost job is the failure of its own row.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dehaze_bench import row
from dehaze_bench.compose import compose_run
from dehaze_bench.errors import Requeue, UsageError
from dehaze_bench.results.store import Store

POLL_S = 1.0
ASK_S = 5.0
# How long a result file may lag behind the end of its job (network file systems do), and a job be missing or held.
SETTLE_S = 15.0
# How long the queue may give no answer before the sweep stops waiting; its jobs go on.
SILENCE_S = 3600.0
# Slurm's default limit on the jobs of one array is 1001.
ARRAY = 1000
ALIVE = ("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "REQUEUED", "RESIZING", "SIGNALING",
         "STAGE_OUT", "STOPPED", "PREEMPTED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")  # fmt: skip
# Why a pending job never starts by itself.
NEVER = ("held", "BadConstraints", "DependencyNeverSatisfied", "PartitionTimeLimit", "InvalidAccount", "InvalidQOS")
GENERIC = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node",
           "stderr_to_stdout")  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What submitit sends to a job: the overrides of one row, from which the job composes it anew."""

    overrides: tuple[str, ...]

    def __call__(self) -> dict[str, Any]:
        """Do the row. A job that its scheduler wants to end saves, goes back to the queue, and finds its run again."""
        before = len(row.signals)
        found = row.run(self.overrides)
        received = row.signals[before] if len(row.signals) > before else None
        if found["state"] != "requeue" or received is None:
            return found
        handler = signal.getsignal(signal.SIGUSR2)  # submitit's: it requeues this job and leaves, up to its limit
        if received == "SIGUSR2" and callable(handler):
            from submitit.core.utils import UncompletedJobError

            print(found["message"], file=sys.stderr, flush=True)
            try:
                handler(signal.SIGUSR2, None)
            except UncompletedJobError as error:
                message = f"{error} Allow more: hydra.launcher.max_num_timeout=N, hydra.launcher.timeout_min=MINUTES."
                row.record_loss(compose_run(self.overrides), message)
                return {**found, "state": "failed", "message": message, "exit_code": 1}
        elif os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
            # Cancelled, or preempted and requeued by Slurm itself: a result would say that this row is over.
            sys.exit(Requeue.exit_code)
        return found

    def checkpoint(self) -> Any:
        """Return what is sent when the job is requeued: the same row."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def is_submitit(plugin: object) -> bool:
    """Whether a launcher is one of those for submitit."""
    return type(plugin).__module__.startswith("hydra_plugins.hydra_submitit_launcher")


def launch(plugin: Any, rows: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Run every row as a job of its own and return the statuses in order.

    Raises `UsageError` where jobs cannot be submitted at all, and `KeyboardInterrupt` when the user ends the wait: jobs
    in a queue then go on.
    """
    kind = str(plugin._EXECUTOR)
    tasks = [Task(tuple(overrides)) for overrides in rows]
    limit = int(plugin.params.get("array_parallelism") or os.cpu_count() or 1)
    jobs: list[Any] = []
    try:
        executor = _executor(kind, plugin.params)
        if kind == "slurm":
            for k in range(0, len(tasks), ARRAY):
                jobs += executor.submit_array(tasks[k : k + ARRAY])
    except (RuntimeError, NameError, ValueError, AssertionError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise UsageError(
            f"Jobs cannot be submitted by hydra/launcher of kind '{kind}': {reason}. See hydra.launcher.* in "
            f"conf/hydra/launcher, for example hydra.launcher.partition=NAME."
        ) from error
    waiting = _Waiting(rows, jobs)
    if kind == "slurm":
        print(f"Slurm: {', '.join(_arrays(jobs))}, {len(jobs)} jobs, at most {limit} at a time", file=sys.stderr)
        return waiting.all(_ask_slurm)
    return waiting.all(_ask_local, lambda: executor.submit(tasks[len(waiting.jobs)]), limit)


def _executor(kind: str, parameters: Mapping[str, Any]) -> Any:
    import submitit

    given = {key: value for key, value in parameters.items() if value is not None}
    # Numbers of jobs and processes come again: without a folder of its own an older result could pass for ours.
    sweep = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder = str(given.pop("submitit_folder")).replace("%j", f"{sweep}/%j")
    limits = {f"{kind}_{key}": given.pop(key) for key in ("max_num_timeout",) if key in given}
    if kind == "local":
        given = {key: value for key, value in given.items() if key in GENERIC or key == "setup"}
    executor = submitit.AutoExecutor(folder=folder, cluster=kind, **limits)
    executor.update_parameters(**{key if key in GENERIC else f"{kind}_{key}": value for key, value in given.items()})
    return executor


class _Waiting:
    """The jobs that are out, and what became of those that are back, by row."""

    def __init__(self, rows: Sequence[Sequence[str]], jobs: list[Any]) -> None:
        self.rows = rows
        self.jobs = jobs
        self.found: dict[int, dict[str, Any]] = {}
        self.missing: dict[int, float] = {}
        self.started = time.monotonic()

    def all(self, ask: Any, submit: Any = None, limit: int = 0) -> list[dict[str, Any]]:
        asked, answered = -ASK_S, time.monotonic()
        states: dict[str, tuple[str, str]] = {}
        unlisted = ("PENDING", "")  # as long as the queue has never answered
        while len(self.found) < len(self.rows):
            try:
                while submit is not None and len(self.jobs) < len(self.rows) and len(self.open()) < limit:
                    self.jobs.append(submit())
                now = time.monotonic()
                if now - asked >= ASK_S or ask is _ask_local:
                    asked, answer = now, ask([self.jobs[k] for k in self.open()])
                    if answer is not None:
                        states, answered, unlisted = answer, now, ("GONE", "")
                for k in self.open():
                    self.look(k, states.get(self.jobs[k].job_id, unlisted), now, silent=now - answered)
                time.sleep(POLL_S)
            except KeyboardInterrupt:
                if ask is not _ask_local:
                    names = " ".join(_arrays([self.jobs[k] for k in self.open()]))
                    print(f"The jobs go on: the same command finds them; scancel {names} ends them.", file=sys.stderr)
                    raise
                submit, self.rows = None, self.rows[: len(self.jobs)]  # the jobs got the signal too, and save
        return [self.found[k] for k in sorted(self.found)]

    def open(self) -> list[int]:
        return [k for k in range(len(self.jobs)) if k not in self.found]

    def look(self, k: int, state: tuple[str, str], now: float, silent: float) -> None:
        """Take the result of job `k` where it is there, and give the job up where none can come."""
        job, (word, reason) = self.jobs[k], state
        if job.paths.result_pickle.exists():
            self.found[k] = self.result(k)
            return
        stuck = word == "PENDING" and any(mark in reason for mark in NEVER)
        if silent > SILENCE_S:
            message = f"The queue has not answered for {silent / 60:.0f} min; job {job.job_id} may still run."
            self.found[k] = self.status(k, "failed", message)
        elif word in ALIVE and not stuck:
            self.missing.pop(k, None)
        elif now - self.missing.setdefault(k, now) > SETTLE_S:
            if stuck:
                job.cancel(check=False)
                message = (
                    f"Job {job.job_id} can never start ({reason}) and was taken out of the queue: change "
                    f"hydra.launcher.*, for example timeout_min."
                )
                self.found[k] = self.status(k, "failed", message)
            else:
                self.found[k] = self.lost(k, word)

    def result(self, k: int) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.jobs[k].result()
        except Exception as error:  # whatever the job raised outside the row
            lines = str(error).strip().splitlines()
            return self.lost(k, next((line for line in reversed(lines) if "Error" in line), type(error).__name__))
        return found

    def lost(self, k: int, how: str) -> dict[str, Any]:
        """Say what became of a row whose job left no result, from its run directory."""
        job, composed = self.jobs[k], compose_run(self.rows[k])
        identity = row.identify_run(composed)
        stored = Store(Path(composed.cfg.paths.runs)).get(identity.id)
        if stored is not None and stored.state == "done":
            return self.status(k, "done", "", identity.name)
        message = f"Job {job.job_id} ended without a result ({how}); its log is {job.paths.stderr}."
        if how.startswith(("CANCELLED", "PREEMPTED")):
            return self.status(k, "requeue", f"{message} What it had saved is kept.", identity.name)
        if stored is not None and stored.state == "failed":
            return self.status(k, "failed", stored.reason, identity.name)
        row.record_loss(composed, message)
        return self.status(k, "failed", message, identity.name)

    def status(self, k: int, state: str, message: str, name: str = "") -> dict[str, Any]:
        code = {"done": 0, "requeue": Requeue.exit_code}.get(state, 1)
        return asdict(row.Status("", name, state, time.monotonic() - self.started, message, code))


def _arrays(jobs: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(str(job.job_id).split("_")[0] for job in jobs))


def _ask_local(jobs: Sequence[Any]) -> dict[str, tuple[str, str]]:
    """Return the state of every job from its process."""
    return {job.job_id: ("RUNNING" if not job.done() else job.state, "") for job in jobs}


def _ask_slurm(jobs: Sequence[Any]) -> dict[str, tuple[str, str]] | None:
    """Return (state, reason) of every job that Slurm still knows; None where Slurm does not answer.

    squeue needs no accounting; of a job that is over it speaks for MinJobAge (five minutes unless configured).
    """
    found: dict[str, tuple[str, str]] = {}
    for number in _arrays(jobs):
        command = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={number}", "--format=%i|%T|%r"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode and "Invalid job id" not in done.stderr:
            return None
        for line in done.stdout.splitlines():
            name, _, state = line.partition("|")
            word, _, reason = state.partition("|")
            found[name.strip()] = (word.strip(), reason.strip())
    return found

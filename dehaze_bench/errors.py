"""Errors that a user reads: each is one message that names the thing, the nearest valid choice and the remedy.

The class decides the exit code: 2 for a request that cannot be right (unknown name, bad value, wrong layout),
1 for a job that failed while it ran, 75 (`EX_TEMPFAIL`) for a job that was interrupted and should be queued again.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """An error with an exit code; its text is shown to the user without a traceback."""

    exit_code = 1


class JobError(BenchError):
    """A job failed while it ran, for example a non-finite loss."""

    exit_code = 1


class UsageError(BenchError):
    """The request itself is wrong: unknown names, values out of range, missing or malformed data."""

    exit_code = 2


class Requeue(BenchError):
    """The job was asked to stop, saved its state and should be started again."""

    exit_code = 75


def nearest(name: str, choices: Iterable[str], limit: int = 24) -> str:
    """Return "did you mean 'x'? Choices: a, b, c", without the question where nothing is close.

    Of more choices than `limit` the ten that are most like the name are listed.
    """
    known = sorted(set(choices))
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not known:
        return "There are no choices."
    if len(known) <= limit:
        listing = f"Choices: {', '.join(known)}."
    else:
        alike = difflib.get_close_matches(name, known, n=10, cutoff=0.0)
        listing = f"Nearest of {len(known)} choices: {', '.join(alike)}."
    return f"Did you mean '{close[0]}'? {listing}" if close else listing

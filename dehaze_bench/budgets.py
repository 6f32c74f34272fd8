"""`model.match`: the width of a network whose parameters or multiply-adds meet a budget.

Solving builds some forty networks on the meta device, which takes seconds, and every run of a sweep is a process of its
own. So answers are kept under ~/.cache/dehaze_bench ($DEHAZE_BENCH_CACHE), named by a hash of the question, of this
package's code and of torch's version; a folder that cannot be written only costs the time.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dehaze_bench.counting import count_macs, count_params
from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.registry import PACKAGE, cache_dir
from dehaze_bench.results.files import write_text_atomic

TOLERANCE = 0.02
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_solved: dict[str, float] = {}


def parse_amount(text: str | float, key: str) -> float:
    """Return 1500000.0 for "1.5M"; units are k, M, G, T. Raises `UsageError` naming `key`."""
    match = re.fullmatch(r"([\d.]+(?:e[+-]?\d+)?)\s*([kmgt]?)", str(text).strip().lower())
    try:
        value = float(match[1]) * _UNITS[match[2]] if match else math.nan
    except ValueError:
        value = math.nan
    if not value > 0:
        raise UsageError(f"{key}={text} is no amount: write for example 250k, 1.5M or 4.2G.")
    return value


def solve_width(make: Callable[[float], nn.Module], match: Mapping[str, Any], question: str | None) -> float:
    """Return the width whose count comes nearest to the budget in `match` (params or macs), within 2 %.

    `question` names network, scan and budget; None for code that may change under us, whose answer is not kept.
    Raises `UsageError` for a budget that is no amount and for one that no width meets.
    """
    if len(match) != 1 or not match.keys() <= {"params", "macs"}:
        bad = next((key for key in match if key not in ("params", "macs")), None)
        hint = f"unknown key model.match.{bad}. {nearest(bad, ['params', 'macs'])}" if bad else "give one, not both"
        raise UsageError(f"model.match takes params or macs: {hint}")
    if question is None:
        return _solve(make, match)
    if question not in _solved:
        place = _folder() / f"{hashlib.sha256(f'{_code()} {question}'.encode()).hexdigest()[:32]}.txt"
        kept = _read(place)
        _solved[question] = _solve(make, match) if kept is None else kept
        if kept is None:
            with suppress(OSError):
                place.parent.mkdir(parents=True, exist_ok=True)
                write_text_atomic(place, f"{_solved[question]!r}\n")
    return _solved[question]


def _solve(make: Callable[[float], nn.Module], match: Mapping[str, Any]) -> float:
    """The count grows with the width in small steps: bisection finds the budget, then the neighbourhood is searched."""
    kind, text = next(iter(match.items()))
    budget = parse_amount(text, f"model.match.{kind}")

    def count(width: float) -> float:
        with torch.device("meta"):
            network = make(width)
        return count_params(network) if kind == "params" else count_macs(network)

    low, high = 2.0, 8.0
    while count(high) < budget:
        low, high = high, high * 2
        if high > 8192:
            raise UsageError(f"model.match.{kind}={text} is out of reach: no width up to 8192 is that large.")
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (middle, high) if count(middle) < budget else (low, middle)
    steps = [low + offset / 8 for offset in range(-12, 13) if low + offset / 8 >= 2]
    best = min(steps, key=lambda width: abs(count(width) - budget))
    found = count(best)
    if abs(found / budget - 1) > TOLERANCE:
        raise UsageError(
            f"model.match.{kind}={text} cannot be met within {TOLERANCE:.0%}: the nearest width, {best:g}, "
            f"gives {found:,.0f}. Ask for that, or change depths or ffn_ratio."
        )
    return best


def _folder() -> Path:
    return cache_dir() / "widths"


def _read(path: Path) -> float | None:
    with suppress(OSError, ValueError):
        width = float(path.read_text(encoding="utf-8"))
        if 2 <= width <= 8192:
            return width
    return None


@cache
def _code() -> str:
    """A hash of all that decides what a width counts."""
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()

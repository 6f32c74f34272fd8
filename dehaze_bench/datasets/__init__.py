"""What the verb `data` does: look at data sets, check them, pack them, make haze. One module per action."""

from __future__ import annotations

import importlib

from dehaze_bench.arguments import Arguments
from dehaze_bench.errors import UsageError, nearest

ACTIONS = ("info", "verify", "prepare", "synthesize")


def run(argv: Arguments) -> int:
    """Do the action that the first word names, and return the exit code."""
    action, rest = (argv[0], argv[1:]) if argv else ("", [])
    if action not in ACTIONS:
        raise UsageError(f"data needs an action, not '{action}'. {nearest(action, ACTIONS)}")
    module = importlib.import_module(f"dehaze_bench.datasets.{action}")
    code: int = module.run(rest)
    return code

"""What was measured of a run's network after the run: `cost.json` in its directory, made by `dehaze-bench profile`.

Time and memory hang on the machine, so they are no part of a run: measured again elsewhere, the file is replaced.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from dehaze_bench.results.fields import Fields
from dehaze_bench.results.files import read_json, write_json_atomic
from dehaze_bench.results.record import Cost

COST = "cost.json"
# Columns that `cost.json` may fill; `macs_paper` also stands in the records of new runs.
MEASURED_COSTS = ("macs_paper", "latency", "memory")
_KEYS = (*MEASURED_COSTS, "macs_rule", "conditions")


def write_cost(run_dir: Path, cost: Cost) -> Path:
    """Write what was measured of the network of a finished run, and return the path."""
    path = run_dir / COST
    write_json_atomic(path, {key: value for key, value in asdict(cost).items() if key in _KEYS})
    return path


def read_cost(run_dir: Path, cost: Cost) -> Cost:
    """The cost of a record, filled up with what was measured later; raises UsageError naming a malformed file."""
    path = run_dir / COST
    if not path.exists():
        return cost
    fields = Fields(read_json(path), str(path))
    later = Cost.from_dict({"params": None, "macs": None, **fields.raw}, str(path))
    return replace(cost, **{key: value for key in _KEYS if (value := getattr(later, key)) is not None})

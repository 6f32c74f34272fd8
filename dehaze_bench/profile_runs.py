"""`dehaze-bench profile` on an experiment of runs: what each row's network needs, kept beside its finished runs.

The answer goes into `cost.json` of every finished run of a row, where the columns `latency`, `memory` and `macs_paper`
of tables find it. A row is measured once, alone in a process, in one sitting with the others: so that they compare.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dehaze_bench import arguments, build, counting, sweep
from dehaze_bench.compose import compose_run
from dehaze_bench.environment import describe_environment
from dehaze_bench.errors import BenchError, UsageError
from dehaze_bench.models.identity import Identity
from dehaze_bench.profiling.measure import Settings
from dehaze_bench.profiling.worker import Failure, ask, describe
from dehaze_bench.results.figures import figure
from dehaze_bench.results.measured_costs import write_cost
from dehaze_bench.results.record import Cost

OPTIONS = ("size", "batch", "repeats", "limit", "device")


@dataclass(frozen=True)
class Measurement:
    """How every network is measured: the side of a square image, images at a time, and the seconds it may take."""

    device: str
    size: int = counting.MACS_SIZE[0]
    batch: int = 1
    repeats: int = 10
    limit: int = 600


def run(name: str, given: Mapping[str, str], overrides: Sequence[str]) -> int:
    """Measure every row that has a finished run; 1 if a network failed, else 0.

    Raises:
        UsageError: an option that has no meaning here, or no run that is done.
    """
    for key in given:
        if key not in OPTIONS:
            raise UsageError(f"{key}= has no meaning for an experiment of runs, whose files say what the networks are.")
    how = _how(given)
    plan = sweep.plan(name, overrides)
    done: dict[int, list[sweep.Planned]] = {}
    for planned in plan.runs:
        if planned.state == "done":
            done.setdefault(planned.job.row, []).append(planned)
    if not done:
        raise UsageError(f"{plan.experiment.name} has no finished run to measure: dehaze-bench sweep {name}")
    failed = 0
    for number, runs in enumerate(done.values(), start=1):
        label = plan.experiment.rows[runs[0].job.row].label
        try:
            cost = measure(runs[0].overrides, how)
            if cost is None:
                print(f"[{number}/{len(done)}] {label}: does nothing", flush=True)
                continue
        except Failure as error:
            failed += 1
            print(f"[{number}/{len(done)}] {label}: {error}", file=sys.stderr)
            continue
        for planned in runs:
            write_cost(plan.runs_dir / planned.name, cost)
        memory = "memory unknown" if cost.memory is None else figure("memory", cost.memory)
        print(f"[{number}/{len(done)}] {label}: {figure('latency', cost.latency or 0)}, {memory}", flush=True)
    return 1 if failed else 0


def measure(overrides: Sequence[str], how: Measurement) -> Cost | None:
    """Return what the network of a run needs, None for the hazy input itself; `Failure` where it cannot be measured."""
    cfg = compose_run(overrides).cfg
    blueprint = build.blueprint(cfg)
    network = _meta(blueprint)
    if isinstance(network, Identity):
        return None
    rule = counting.rule_of(network)
    size = (how.size, how.size)
    try:
        papers = counting.count_macs(network, size, rule) if build.trainable(network) else None
    except (BenchError, RuntimeError, ValueError, AssertionError) as error:
        raise Failure(describe(error)) from error
    settings = Settings(how.size, how.batch, repeats=how.repeats, seconds=how.limit / 6)
    found = ask(blueprint, how.device, settings, how.limit)
    return Cost(
        macs_paper=papers,
        macs_rule=rule,
        latency=statistics.median(found.seconds),
        memory=found.memory,
        conditions=_conditions(how),
    )


def _meta(blueprint: Mapping[str, Any]) -> torch.nn.Module:
    with torch.device("meta"):
        return build.from_blueprint(blueprint)


def _how(given: Mapping[str, str]) -> Measurement:
    numbers = {key: arguments.integer(given[key], key) for key in ("size", "batch", "repeats", "limit") if key in given}
    for key, number in numbers.items():
        if number is None or number < 1:
            raise UsageError(f"{key}={given[key]} must be a whole number from 1 up; rows are measured at one size.")
    device = str(build.device(compose_run([f"runtime.device={given.get('device', 'auto')}"]).cfg))
    return Measurement(device, **{key: number for key, number in numbers.items() if number is not None})


def _conditions(how: Measurement) -> str:
    found = describe_environment(how.device)
    on_cpu = how.device == "cpu"
    where = f"CPU, {found['threads']} threads" if on_cpu else str(found["device"])
    memory = "growth of the resident set, without weights" if on_cpu else "peak of what was allocated, with weights"
    return (
        f"one forward pass over {how.batch} x {how.size} x {how.size}, median of {how.repeats}; {where}, torch "
        f"{found['torch']}, float32, operators {found['auto/cpu' if on_cpu else 'auto/cuda']}; memory: {memory}"
    )

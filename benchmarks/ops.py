"""Speed and memory of every operator, by backend, length and order of the tokens, against the floor of the machine.

    python benchmarks/ops.py [--quick] [--device cuda] [--json FILE] [--plot FILE.png]

Times are medians of samples in which all orders of one operator and backend take turns. Bytes are what must be moved
at least: every input read once and every output written once per pass; the floor is the larger of that at the speed of
a copy and of the operations (see `operators.py`) at the speed of a float32 matrix product, both measured in the same
run. Extra memory is the peak of one call above what there was, results included. The references visit one token at a
time, so they run in raster order only, on one thread (their operations are too small for two), and up to the length
at which a call takes seconds; ratios to them are given up to there.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measuring
import torch
from measuring import Floors, describe_machine, extra_memory, measure_floors, measure_times
from operators import CHANNELS, OPERATORS, Inputs, Operator
from torch import Tensor

ORDERS = ("raster", "columns", "hilbert", "random")
PATIENCE = 2.0  # seconds of a call after which a reference is not run at greater lengths
REFERENCE = "reference"

Row = dict[str, Any]


def main() -> None:
    """Measure, print the table, and write the JSON file and the plot where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ops", default=",".join(OPERATORS), help="operators, separated by commas")
    parser.add_argument("--backends", help="backends, separated by commas; all that run here if left out")
    parser.add_argument("--lengths", default="1024,4096,16384,65536", help="numbers of tokens, even powers of 2")
    parser.add_argument("--orders", default=",".join(ORDERS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="on the CPU")
    parser.add_argument(
        "--cpu-time", action="store_true", help="one thread, and its CPU time: where others compute too"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="1024 and 4096 tokens, three repeats")
    parser.add_argument("--json", type=Path, help="write machine, floors and rows here")
    parser.add_argument("--plot", type=Path, help="write a picture here")
    options = parser.parse_args()
    if options.quick:
        options.lengths, options.repeats = "1024,4096", 3
    if options.cpu_time:
        options.device, options.threads, measuring.clock = "cpu", 1, time.process_time
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    machine, floors = describe_machine(device), measure_floors(device)
    print("  ".join(f"{key} {value}" for key, value in machine.items()))
    print(
        f"copy {floors.bytes_per_second / 1e9:.1f} GB/s, matrix product "
        f"{floors.multiply_adds_per_second / 1e9:.0f} G multiply-adds/s; {CHANNELS} channels"
    )
    rows: list[Row] = []
    for name in options.ops.split(","):
        rows += measure_operator(name, options, device, floors)
    print_routes(rows)
    if options.json:
        text = json.dumps({"machine": machine, "floors": floors._asdict(), "rows": rows}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.plot:
        from drawing import draw

        draw(rows, machine, options.plot)


def measure_operator(name: str, options: argparse.Namespace, device: torch.device, floors: Floors) -> list[Row]:
    """Return one row per backend, length, pass and order; print them as they come."""
    operator = OPERATORS[name]
    backends = choose_backends(name, operator, options.backends, device)
    lengths = [int(text) for text in options.lengths.split(",")]
    orders = options.orders.split(",") + (["cross"] if name == "selective_scan_4" else [])
    print_header(name)
    rows: list[Row] = []
    slow: set[bool] = set()  # passes in which the reference takes seconds
    for length in lengths:
        inputs = operator.draw(length, device)
        for train in (False, True):
            found: dict[tuple[str, str], Row] = {}
            for backend in backends:
                if backend == REFERENCE and train in slow:
                    continue
                wanted = orders[:1] if backend == REFERENCE else orders
                calls = {
                    order: make_call(operator, inputs, operator.order(order, length, device), backend, train)
                    for order in wanted
                }
                if backend == REFERENCE:
                    torch.set_num_threads(1)
                seconds = measure_times(calls, options.repeats, device)
                memory = {order: extra_memory(call, device) for order, call in calls.items()}
                torch.set_num_threads(options.threads)
                for order in wanted:
                    found[backend, order] = {
                        "operator": name,
                        "tokens": length,
                        "pass": "forward+backward" if train else "forward",
                        "backend": backend,
                        "order": order,
                        "seconds": seconds[order],
                        "extra_mib": memory[order],
                    } | amounts(operator, inputs, length, train, seconds[order], floors)
                if backend == REFERENCE and seconds[wanted[0]] > PATIENCE:
                    slow.add(train)
            compare(found)
            print_rows(list(found.values()))
            rows += found.values()
        del inputs
        gc.collect()
    if slow:
        print(f"  {REFERENCE}: not run at greater lengths, where a call takes more than {PATIENCE:g} s")
    return rows


def choose_backends(name: str, operator: Operator, wanted: str | None, device: torch.device) -> list[str]:
    """Return what can run; say why the rest cannot."""
    chosen = []
    for backend, reason in operator.backends().items():
        if wanted and backend not in wanted.split(","):
            continue
        if reason == "ok":
            reason = try_backend(operator, backend, device)
        if reason == "ok":
            chosen.append(backend)
        else:
            print(f"  {name}: no {backend}: {reason}", file=sys.stderr)
    return chosen


def try_backend(operator: Operator, backend: str, device: torch.device) -> str:
    """Run both passes on a few tokens: compiles, and finds out."""
    try:
        make_call(operator, operator.draw(64, device), None, backend, train=True)()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def make_call(
    operator: Operator, inputs: Inputs, order: Tensor | None, backend: str, train: bool
) -> Callable[[], None]:
    """One forward pass, or one forward and backward pass with fresh gradients."""
    leaves = {name: x.detach().requires_grad_() for name, x in inputs.items()}

    def forward() -> None:
        with torch.no_grad():
            operator.run(inputs, order, backend)

    def forward_backward() -> None:
        y = operator.run(leaves, order, backend)
        torch.autograd.grad(y, list(leaves.values()), torch.ones_like(y))

    return forward_backward if train else forward


def amounts(
    operator: Operator, inputs: Inputs, length: int, train: bool, seconds: float, floors: Floors
) -> dict[str, float]:
    """Return throughput, the bytes that must move, and how far the time is from the floor."""
    read = sum(x.numel() * x.element_size() for x in inputs.values())
    y = length * CHANNELS * 4
    moved = 3 * read + 2 * y if train else read + y
    floor = floors.seconds(moved, operator.operations(length, train))
    return {
        "values_per_second": length * CHANNELS / seconds,
        "bytes": moved,
        "bytes_per_second": moved / seconds,
        "floor_seconds": floor,
        "over_floor": seconds / floor,
    }


def compare(found: dict[tuple[str, str], Row]) -> None:
    """Add the ratios to the reference and to raster order, None where there is nothing to compare with."""
    for (backend, order), row in found.items():
        reference, raster = found.get((REFERENCE, "raster")), found.get((backend, "raster"))
        row["speedup"] = reference["seconds"] / row["seconds"] if reference else None
        row["over_raster"] = row["seconds"] / raster["seconds"] if raster and order != "raster" else None


def print_header(name: str) -> None:
    """The first line of an operator's table."""
    print(f"\n{name}")
    print(f"{'L':>7} {'pass':<17}{'backend':<10}{'order':<8}{'ms':>9}{'Mvalues/s':>10}{'MB':>8}{'GB/s':>7}", end="")
    print(f"{'/floor':>8}{'speed-up':>9}{'/raster':>8}{'MiB':>8}")


def print_rows(rows: list[Row]) -> None:
    """One line per row."""
    for row in rows:
        speedup = "" if row["speedup"] is None else f"{row['speedup']:.1f}"
        ratio = "" if row["over_raster"] is None else f"{row['over_raster']:.2f}"
        memory = "" if row["extra_mib"] is None else f"{row['extra_mib']:.1f}"
        print(
            f"{row['tokens']:>7} {row['pass']:<17}{row['backend']:<10}{row['order']:<8}{row['seconds'] * 1e3:>9.2f}"
            f"{row['values_per_second'] / 1e6:>10.2f}{row['bytes'] / 1e6:>8.2f}{row['bytes_per_second'] / 1e9:>7.2f}"
            f"{row['over_floor']:>8.1f}{speedup:>9}{ratio:>8}{memory:>8}",
            flush=True,
        )


def print_routes(rows: list[Row]) -> None:
    """What a cross scan of four routes costs in scans of one route in raster order."""
    for row in rows:
        for one in rows:
            same = all(one[key] == row[key] for key in ("backend", "tokens", "pass"))
            ends = (one["operator"], one["order"], row["operator"], row["order"])
            if same and ends == ("selective_scan", "raster", "selective_scan_4", "cross"):
                ratio = row["seconds"] / one["seconds"]
                where = f"{row['backend']}, {row['tokens']} tokens, {row['pass']}"
                print(f"  {where}: a cross scan of four routes takes {ratio:.2f} times one route")


if __name__ == "__main__":
    main()

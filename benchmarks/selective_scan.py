"""Speed and memory of the selective scan on the CPU: the Numba twin against two loops in plain torch.

    python benchmarks/selective_scan.py [--lengths 1024,4096,16384] [--threads 2] [--json FILE]

`published` has the structure of the reference loop that the Mamba repository ships: channels-first, exp(delta A) and
delta B u as full (B, D, L, N) tensors, then one step per token. Its gradient is taken with the tokens unbound, not
selected one by one: selecting makes autograd allocate a whole gradient per step, which is quadratic in L; so the
ratios for training are lower bounds. `reference` is this project's plain reference. Every figure is the median of
repeats after a warm-up; a call longer than ten seconds is made once. Extra memory is the peak of the resident set above
that before the call, results included.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.ops.backends import available_backends
from dehaze_bench.ops.selective_scan import selective_scan

BATCH, CHANNELS, STATES = 1, 96, 16
ONCE = 10.0  # seconds

Inputs = dict[str, Tensor]


def main() -> None:
    """Measure, print the table and write the JSON file where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lengths", default="1024,4096,16384", help="numbers of tokens, separated by commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write machine and rows here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = describe_machine()
    print("  ".join(f"{key} {value}" for key, value in machine.items()))
    rows = []
    step(lambda x: scan(x, None, "numba"), draw_inputs(64), train=True)()  # compile, so that no figure contains it
    for length in [int(text) for text in options.lengths.split(",")]:
        rows += measure_length(length, options.repeats)
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


def measure_length(num_tokens: int, repeats: int) -> list[dict[str, Any]]:
    """Return one row per implementation, order and pass."""
    inputs = draw_inputs(num_tokens)
    shuffled = torch.randperm(num_tokens, generator=torch.Generator().manual_seed(1))
    calls: list[tuple[str, str, Callable[[Inputs], Tensor]]] = [
        ("numba", "raster", lambda x: scan(x, None, "numba")),
        ("numba", "random", lambda x: scan(x, shuffled, "numba")),
        ("reference", "raster", lambda x: scan(x, None, "reference")),
    ]
    rows: list[dict[str, Any]] = []
    for train in (False, True):
        publish = ("published", "raster", lambda x, unbind=train: published_loop(x, unbind))
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for name, order, call in [*calls, publish]:
            seconds, memory = measure(step(call, inputs, train), repeats)
            found[name, order] = {
                "tokens": num_tokens,
                "pass": "forward+backward" if train else "forward",
                "implementation": name,
                "order": order,
                "ms": seconds * 1e3,
                "ns_per_element": seconds * 1e9 / (BATCH * num_tokens * CHANNELS * STATES),
                "extra_mib": memory,
            }
        for (name, order), row in found.items():
            row["speedup"] = found["published", "raster"]["ms"] / row["ms"]
            row["over_raster"] = row["ms"] / found[name, "raster"]["ms"] if order == "random" else None
        rows += found.values()
    return rows


def draw_inputs(num_tokens: int) -> Inputs:
    """Random data with the step sizes and the state matrix of a freshly made Mamba block."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "u": normal(BATCH, num_tokens, CHANNELS),
        "delta": normal(BATCH, num_tokens, CHANNELS),
        "A": -torch.arange(1.0, STATES + 1).repeat(CHANNELS, 1),
        "B": normal(BATCH, num_tokens, STATES),
        "C": normal(BATCH, num_tokens, STATES),
        "D": torch.ones(CHANNELS),
        "delta_bias": torch.full((CHANNELS,), -4.0),
    }


def scan(x: Inputs, order: Tensor | None, backend: str) -> Tensor:
    """This project's operator."""
    y = selective_scan(
        x["u"],
        x["delta"],
        x["A"],
        x["B"],
        x["C"],
        x["D"],
        delta_bias_D=x["delta_bias"],
        delta_softplus=True,
        order_L=order,
        backend=backend,
    )
    assert isinstance(y, Tensor)
    return y


def published_loop(x: Inputs, unbind: bool) -> Tensor:
    """The structure of the published reference: everything of size B D L N first, then the recurrence."""
    u_BDL = x["u"].transpose(1, 2)
    delta_BDL = F.softplus(x["delta"].transpose(1, 2) + x["delta_bias"][:, None])
    decay_BDLN = torch.exp(torch.einsum("bdl,dn->bdln", delta_BDL, x["A"]))
    drive_BDLN = torch.einsum("bdl,bln,bdl->bdln", delta_BDL, x["B"], u_BDL)
    steps: list[tuple[Tensor, Tensor, Tensor]]
    if unbind:
        steps = list(zip(decay_BDLN.unbind(2), drive_BDLN.unbind(2), x["C"].unbind(1), strict=True))
    else:
        steps = [(decay_BDLN[:, :, t], drive_BDLN[:, :, t], x["C"][:, t]) for t in range(u_BDL.shape[2])]
    h_BDN = u_BDL.new_zeros(BATCH, CHANNELS, STATES)
    outputs = []
    for decay_BDN, drive_BDN, C_BN in steps:
        h_BDN = decay_BDN * h_BDN + drive_BDN
        outputs.append(torch.einsum("bdn,bn->bd", h_BDN, C_BN))
    return (torch.stack(outputs, 2) + u_BDL * x["D"][:, None]).transpose(1, 2)


def step(call: Callable[[Inputs], Tensor], inputs: Inputs, train: bool) -> Callable[[], None]:
    """One forward pass, or one forward and backward pass with fresh gradients."""

    ones = torch.ones_like(inputs["u"])

    def forward() -> None:
        with torch.no_grad():
            call(inputs)

    def forward_backward() -> None:
        leaves = {name: x.detach().requires_grad_() for name, x in inputs.items()}
        call(leaves).backward(ones)

    return forward_backward if train else forward


def measure(call: Callable[[], None], repeats: int) -> tuple[float, float | None]:
    """Return the median seconds and the extra memory in MiB of the warm-up call (None where it cannot be read)."""
    start = time.perf_counter()
    memory = extra_memory(call)
    if (first := time.perf_counter() - start) > ONCE:
        return first, memory
    seconds = []
    for _ in range(repeats if first < 1 else 3):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), memory


def extra_memory(call: Callable[[], None]) -> float | None:
    """Run the call while a thread watches the resident set."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        call()
        return None

    def resident() -> float:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # give freed memory back first, so that reuse does not hide it
    peaks = [before := resident()]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            peaks.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    call()
    done.set()
    watcher.join()
    return max(peaks) - before


def describe_machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numba": available_backends()["numba"],
        "load": round(os.getloadavg()[0], 2),
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    """One line per row; the speed-up is over `published` for the same length and pass."""
    print(f"B {BATCH}, D {CHANNELS}, N {STATES}")
    print(f"{'L':>6} {'pass':<17}{'implementation':<15}{'order':<8}{'ms':>10}{'ns/elem':>9}", end="")
    print(f"{'speed-up':>10}{'/raster':>9}{'MiB':>8}")
    for row in rows:
        ratio = "" if row["over_raster"] is None else f"{row['over_raster']:.2f}"
        memory = "" if row["extra_mib"] is None else f"{row['extra_mib']:.1f}"
        print(
            f"{row['tokens']:>6} {row['pass']:<17}{row['implementation']:<15}{row['order']:<8}{row['ms']:>10.2f}"
            f"{row['ns_per_element']:>9.3f}{row['speedup']:>10.1f}{ratio:>9}{memory:>8}"
        )


if __name__ == "__main__":
    main()

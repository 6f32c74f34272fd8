"""What the benchmarks share: time, extra memory, the floors of the machine and its description."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

# Before torch is imported, as the command line does: OpenMP's threads would spin on the cores that the kernels run on.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

ONCE = 5.0  # seconds; a slower call is timed once
BUDGET = 10.0  # seconds of samples after which a call is not sampled again
SAMPLE = 0.02  # seconds; faster calls are repeated within a sample until it lasts so long

clock = time.perf_counter  # or time.process_time, on a machine that others use too

Key = TypeVar("Key", bound=Hashable)
Call = Callable[[], object]


class Floors(NamedTuple):
    """What the machine does at best, measured: reading plus writing memory, and fused multiply-adds in float32."""

    bytes_per_second: float
    multiply_adds_per_second: float

    def seconds(self, num_bytes: float, multiply_adds: float) -> float:
        """Return the time that neither memory nor arithmetic can be under."""
        return max(num_bytes / self.bytes_per_second, multiply_adds / self.multiply_adds_per_second)


def measure_times(calls: Mapping[Key, Call], repeats: int, device: torch.device) -> dict[Key, float]:
    """Return the median seconds of each call. They take turns, so that a machine's moods fall on all of them."""
    found: dict[Key, list[float]] = {}
    counts: dict[Key, int] = {}
    for name, call in calls.items():
        call()  # compiles, and fills caches
        found[name] = [first := _sample(call, 1, device)]
        counts[name] = 0 if first > ONCE else max(1, int(SAMPLE / max(first, 1e-7)))
    for _ in range(repeats):
        for name, call in calls.items():
            if counts[name] and counts[name] * sum(found[name]) < BUDGET:
                found[name].append(_sample(call, counts[name], device))
    return {name: statistics.median(times[1:] or times) for name, times in found.items()}


def _sample(call: Call, count: int, device: torch.device) -> float:
    _wait(device)
    start = clock()
    for _ in range(count):
        call()
    _wait(device)
    return (clock() - start) / count


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def extra_memory(call: Call, device: torch.device) -> float | None:
    """Return the MiB that one call needs at its peak beyond what there was, results included; None if unknown.

    On CUDA what torch allocates; on the CPU the resident set, read every millisecond.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        _wait(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    statm = Path("/proc/self/statm")
    if not statm.exists():
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
    peaks.append(resident())
    done.set()
    watcher.join()
    return max(peaks) - before


def measure_floors(device: torch.device) -> Floors:
    """Copy 64 MiB, and multiply matrices of 1024 x 1024 in float32 (2 GiB, and 4096, on CUDA); take the best of 25."""
    length, side = (2**29, 4096) if device.type == "cuda" else (2**24, 1024)
    source, target = torch.ones(length, device=device), torch.empty(length, device=device)
    a = torch.randn(side, side, device=device)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    copy = min(_sample(lambda: target.copy_(source), 1, device) for _ in range(25))
    product = min(_sample(lambda: a @ a, 1, device) for _ in range(25))
    torch.set_float32_matmul_precision(before)
    return Floors(2 * 4 * length / copy, side**3 / product)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What the figures depend on."""
    described: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "device": _processor()}
    if device.type == "cuda":
        described["device"] = torch.cuda.get_device_name(device)
        described["cuda"] = torch.version.cuda
    else:
        described |= {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 1)}
    for name in ("torch", "numba", "triton"):
        with contextlib.suppress(ImportError):
            described[name] = __import__(name).__version__
    return described


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if names:
            return names[0]
    return platform.processor() or platform.machine()

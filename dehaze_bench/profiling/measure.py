"""What a network needs at one size: seconds and peak memory, measured in this process."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

CLEAR_PEAK = "5"  # what the kernel wants to read in clear_refs, see man 5 proc
LEAST_REPEATS = 3


@dataclass(frozen=True)
class Settings:
    """How to measure: `size` is the side of a square image, `seconds` the time after which repeats stop early."""

    size: int
    batch: int = 1
    training: bool = False
    repeats: int = 10
    warmup: int = 3
    seconds: float = 60.0


@dataclass(frozen=True)
class Measured:
    """Seconds of every repeat, and peak bytes (None where the system does not tell)."""

    seconds: list[float]
    memory: int | None


def measure(network: nn.Module, settings: Settings) -> Measured:
    """Run the network over random images: a forward pass, or a training step with AdamW.

    The first run warms up: kernels are compiled, states of the optimiser made. The next one is watched for memory:

    - on a GPU the peak of what torch had allocated, weights included;
    - on a CPU the growth of the resident set during the run, to which gradients and states of the optimiser are added
      because they stay between runs; weights are not in it.
    """
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    image = torch.rand(settings.batch, 3, settings.size, settings.size, device=device)
    step, optimizer = _step(network, settings.training)

    def run() -> float:
        start = time.perf_counter()
        step(image)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    run()
    memory = _watch(run, device, _kept(network, optimizer))
    for _ in range(settings.warmup - 2):
        run()
    seconds: list[float] = []
    while len(seconds) < settings.repeats and (sum(seconds) < settings.seconds or len(seconds) < LEAST_REPEATS):
        seconds.append(run())
    return Measured(seconds, memory)


def _step(network: nn.Module, training: bool) -> tuple[Callable[[Tensor], object], torch.optim.Optimizer | None]:
    network.train(training)
    if not training:
        return lambda image: _infer(network, image), None
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5)

    def step(image: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        out = network(image)
        outs = [out] if isinstance(out, Tensor) else out
        torch.stack([part.square().mean() for part in outs]).sum().backward()
        optimizer.step()

    return step, optimizer


@torch.no_grad()
def _infer(network: nn.Module, image: Tensor) -> None:
    network(image)


def _kept(network: nn.Module, optimizer: torch.optim.Optimizer | None) -> int:
    """Return the bytes that a training step leaves behind."""
    if optimizer is None:
        return 0
    tensors = [tensor.grad for tensor in network.parameters()]
    tensors += [value for state in optimizer.state.values() for value in state.values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if isinstance(tensor, Tensor))


def _watch(run: Callable[[], object], device: torch.device, kept: int) -> int | None:
    """Return the peak of memory during a run."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError, AttributeError):  # only glibc gives freed memory back when asked
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    try:
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
    except OSError:
        run()
        return None
    run()
    return max(0, _status("VmHWM") - before) + kept


def _status(field: str) -> int:
    """Return bytes from this process's status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in /proc/self/status")

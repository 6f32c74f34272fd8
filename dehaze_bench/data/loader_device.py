"""Bringing batches to the device that trains: on a GPU one ahead, on a stream of its own, while the last one is used.

On the CPU there is nothing to bring, and no thread. The seconds of a batch's `wait` are those for which the loop stood
still: what is read and copied meanwhile costs none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from queue import SimpleQueue

import torch

from dehaze_bench.data.loader_reading import Loaded
from dehaze_bench.data.pairs import to_unit
from dehaze_bench.data.veils import cover


@dataclass(frozen=True)
class Batch:
    """One training batch; `wait` is how long, in seconds, the loop stood still for it."""

    step: int
    names: list[str]
    hazy_BCHW: torch.Tensor
    clear_BCHW: torch.Tensor
    wait: float


Pair = tuple[torch.Tensor, torch.Tensor]


def deliver(loaded: Generator[Loaded], device: torch.device, ahead: bool) -> Iterator[Batch]:
    """Yield the batches on the device as float32 in [0, 1]; `ahead` has a thread prepare the next one meanwhile."""
    ready = _prepare_ahead(loaded, device) if ahead else _prepare(loaded, device)
    try:
        asked = time.perf_counter()
        for made, (hazy_BCHW, clear_BCHW) in ready:
            yield Batch(made.step, made.names, hazy_BCHW, clear_BCHW, wait=time.perf_counter() - asked)
            asked = time.perf_counter()
    finally:
        ready.close()
        loaded.close()


def _prepare(loaded: Iterator[Loaded], device: torch.device) -> Generator[tuple[Loaded, Pair]]:
    for made in loaded:
        yield made, _finish(made, device)


def _prepare_ahead(loaded: Iterator[Loaded], device: torch.device) -> Generator[tuple[Loaded, Pair]]:
    """Prepare one batch ahead in a thread; what is raised there is raised here."""
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    ready: SimpleQueue[tuple[Loaded, Pair, torch.cuda.Event | None] | BaseException | None] = SimpleQueue()
    room = threading.Semaphore(1)
    ended = threading.Event()

    def carry() -> None:
        try:
            with torch.cuda.stream(stream) if stream is not None else nullcontext():
                while room.acquire() and not ended.is_set():
                    made = next(loaded, None)
                    if made is None:
                        break
                    pair = _finish(made, device)
                    ready.put((made, pair, None if stream is None else stream.record_event()))
            ready.put(None)
        except BaseException as error:  # the loop is to end with it, not this thread
            ready.put(error)

    thread = threading.Thread(target=carry, name="loader to device", daemon=True)
    thread.start()
    try:
        while (found := ready.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            made, pair, event = found
            room.release()
            if event is not None:
                current = torch.cuda.current_stream(device)
                current.wait_event(event)
                for tensor in pair:  # its memory is not the side stream's alone any more
                    tensor.record_stream(current)
            yield made, pair
    finally:
        ended.set()
        room.release()
        thread.join()


def _finish(made: Loaded, device: torch.device) -> Pair:
    """Return hazy and clear pictures on the device: in [0, 1], under their haze, mixed."""
    pixels = made.pixels
    if device.type == "cuda":
        pixels = (pixels if pixels.is_pinned() else pixels.pin_memory()).to(device, non_blocking=True)
    hazy, clear = _as_unit(pixels)
    if made.veils is not None:
        cover(hazy, made.veils)
    if made.share is None:
        return hazy, clear
    partners = torch.tensor(made.partners, device=device)
    return _mix(hazy, partners, made.share), _mix(clear, partners, made.share)


def _as_unit(pixels: torch.Tensor) -> torch.Tensor:
    """Return float32 in [0, 1], to the bit what NumPy's division of the same levels gives."""
    if pixels.dtype != torch.uint8:
        return pixels
    if pixels.device.type == "cpu":
        return torch.from_numpy(to_unit(pixels.numpy()))
    # By a plain number CUDA multiplies with its reciprocal, which rounds twice; by a tensor it divides.
    return pixels.to(torch.float32).div_(torch.full((), 255.0, device=pixels.device))


def _mix(pictures: torch.Tensor, partners: torch.Tensor, share: float) -> torch.Tensor:
    return share * pictures[: len(partners)] + (1 - share) * pictures[partners]

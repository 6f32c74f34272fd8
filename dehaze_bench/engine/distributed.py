"""Several processes as one run: who this one is, what all of them agree on, and an orderly end.

torchrun starts the processes and says in the environment which is which. Tensors of training travel over NCCL on GPUs
and gloo on CPUs; what else the processes tell each other (flags, sums, rows of an evaluation) goes over a gloo group of
its own, as CPU tensors, so that no agreement waits for a GPU. A process alone talks to nobody and pays nothing.

Every call that all processes must make together is a method of `World` with "all processes call this" in its text.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from dehaze_bench.errors import BenchError, JobError, Requeue, UsageError

PATIENCE = timedelta(hours=1)  # how long one process may keep the others waiting, for example while it writes pictures
_T = TypeVar("_T")


@dataclass(frozen=True)
class World:
    """The processes of a run; this one is number `rank` of `size`, on `device`. Rank 0 alone has sinks and files."""

    device: torch.device
    rank: int = 0
    size: int = 1
    control: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is set in any process; all processes call this."""
        if self.size == 1:
            return flags
        found = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(found, op=dist.ReduceOp.MAX, group=self.control)
        return tuple(bool(flag) for flag in found.tolist())

    def sum(self, *values: float) -> tuple[float, ...]:
        """Return the sum of each value over all processes; all processes call this."""
        if self.size == 1:
            return values
        found = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(found, group=self.control)
        return tuple(found.tolist())

    def gather(self, value: _T) -> list[_T]:
        """Return what each process gave, by rank; all processes call this."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.control)
        return found

    def once(self, make: Callable[[], _T]) -> _T:
        """Return everywhere what `make` returns on rank 0, where alone it is called; all processes call this.

        What it raises there is raised everywhere: an error with an exit code as it is, any other as a `JobError`.
        """
        if self.size == 1:
            return make()
        told: list[Any] = [None, None]
        if self.first:
            try:
                told = [make(), None]
            except BenchError as error:
                dist.broadcast_object_list([None, error], src=0, group=self.control)
                raise
            except Exception as error:
                other = JobError(f"Process 0 failed with {type(error).__name__}: {error}.")
                dist.broadcast_object_list([None, other], src=0, group=self.control)
                raise
        dist.broadcast_object_list(told, src=0, group=self.control)
        if told[1] is not None:
            told[1].told = True  # rank 0 records it
            raise told[1]
        result: _T = told[0]
        return result

    def agree(self, value: str, what: str) -> None:
        """Raise `UsageError` unless every process has the same value; all processes call this."""
        found = self.gather(value)
        if len(set(found)) > 1:
            odd = next(rank for rank, other in enumerate(found) if other != found[0])
            raise UsageError(
                f"Process 0 and process {odd} do not have the same {what} ({found[0]} and {found[odd]}): start all of "
                f"them with the same command, version and files."
            )

    def claim_failure(self, text: str) -> str | None:
        """Be the one whose failure is recorded: return None if this process is, else how another failed before it.

        The others are not waited for: they may be waiting for this one.
        """
        if self.size == 1:
            return None
        with contextlib.suppress(Exception):  # the store may have gone with the process that kept it
            found = _store().compare_set(_failure_key(), "", f"{self.rank}:{text}").decode()
            return self._told(found)
        return None

    def other_failure(self, seconds: float = 5.0) -> str | None:
        """Return how another process failed, waiting a little for it to say so; None where none did."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(Exception):
            while time.monotonic() < deadline:
                if _store().check([_failure_key()]):
                    return self._told(_store().get(_failure_key()).decode())
                time.sleep(0.1)
        return None

    def _told(self, found: str) -> str | None:
        rank, _, text = found.partition(":")
        return None if int(rank) == self.rank else f"Process {rank} failed: {text}"


def is_lost(error: BaseException) -> bool:
    """Whether an error says that other processes cannot be reached any more."""
    words = r"gloo|NCCL|ProcessGroup|Connection (closed|reset)|Broken pipe|TCPStore|Timed? ?out"
    return isinstance(error, (dist.DistError, RuntimeError)) and re.search(words, str(error)) is not None


def _store() -> dist.Store:
    return dist.distributed_c10d._get_default_store()


def _failure_key() -> str:
    return f"dehaze_bench/failure/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def processes() -> int:
    """Return how many processes torchrun started for this run: 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that reports: number 0, or the only one."""
    return processes() == 1 or os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def join(device: torch.device) -> Iterator[World]:
    """Meet the other processes that torchrun started, and part from them in good order.

    Raises `UsageError` where there are more processes than GPUs, `JobError` where the others do not come.
    """
    size = processes()
    if size == 1:
        yield World(device)
        return
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"torchrun started process {local} on a machine with {torch.cuda.device_count()} GPUs: lower "
                f"--nproc-per-node, or use runtime.device=cpu."
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise JobError(f"Process {rank} of {size} could not meet the others: {str(error).splitlines()[0]}") from error
    control = dist.new_group(backend="gloo", timeout=PATIENCE)
    world = World(device, rank, size, control)
    try:
        yield world
    except Requeue:  # all of them stop
        _part(world)
        raise
    # After any other error the others may be gone, and waiting for them would hang.
    _part(world)


def _part(world: World) -> None:
    dist.barrier(group=world.control)
    gc.collect()  # what still refers to a group must go first: a group that dies with its threads running aborts
    dist.destroy_process_group()


def spread(network: nn.Module, world: World) -> nn.Module:
    """Return the network wrapped so that gradients are averaged over all processes; itself where there is one.

    Parameters that get no gradient are looked for in every step. That costs little, serves the networks that have some,
    and keeps DDP from sorting its buckets anew after the first step: sums are then made in the same order by a run and
    by its resume, whatever the number of processes.
    """
    if world.size == 1:
        return network
    warnings.filterwarnings("ignore", message="Grad strides do not match")  # a copy of a few numbers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer torch spells the next line differently
        return DistributedDataParallel(
            _Spread(network),
            device_ids=[world.device] if world.device.type == "cuda" else None,
            broadcast_buffers=False,  # the loop averages running statistics after the step
            find_unused_parameters=True,
            gradient_as_bucket_view=True,
        )


class _Spread(nn.Module):
    """A network and one parameter without use, for DDP warns on every rank where it looks for some and finds none."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        device = next(network.parameters()).device
        self.unused = nn.Parameter(torch.zeros((), device=device))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        restored: torch.Tensor = self.network(images)
        return restored


def silent(network: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Return the context in which a network of `spread` keeps its gradients to itself, for more of them to come."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else contextlib.nullcontext()


def has_batch_norm(network: nn.Module) -> bool:
    """Whether the network normalises by statistics of the batch."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def running_statistics(network: nn.Module) -> list[torch.Tensor]:
    """Return the running means and variances of batch normalisation."""
    found = []
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
            found += [module.running_mean, module.running_var]
    return found


def average(tensors: list[torch.Tensor], world: World) -> None:
    """Average float tensors over all processes, in place; all processes call this."""
    if world.size == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    flat /= world.size
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))

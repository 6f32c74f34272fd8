"""Run the independent jobs of a kernel on threads.

The kernels release the GIL, so plain threads suffice. Numba's own thread layers are not used: its workqueue must not be
entered by two threads at once, and its OpenMP layer ends a process that forks after use, as data loaders do.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

SMALL = 1 << 18  # operations below which handing work to a thread costs more than it saves


@functools.lru_cache(maxsize=4)
def _pool(process: int, num_threads: int) -> ThreadPoolExecutor:
    """A forked child has another process number, hence a pool of its own: threads do not survive a fork."""
    return ThreadPoolExecutor(num_threads, thread_name_prefix="dehaze_bench")


def run_jobs(kernel: Callable[..., None], jobs: Sequence[np.ndarray], arguments: Sequence[Any], work: int) -> None:
    """Call `kernel(jobs[i], *arguments)` for all i on at most `torch.get_num_threads()` threads; wait for all."""
    num_threads = min(torch.get_num_threads(), len(jobs))
    if num_threads == 1 or work < SMALL:
        for job in jobs:
            kernel(job, *arguments)
        return
    remaining = iter(jobs)  # a list's iterator hands every job to one thread only

    def work_off() -> None:
        for job in remaining:
            kernel(job, *arguments)

    pool = _pool(os.getpid(), num_threads - 1)
    helpers = [pool.submit(work_off) for _ in range(num_threads - 1)]
    work_off()
    for helper in helpers:
        helper.result()

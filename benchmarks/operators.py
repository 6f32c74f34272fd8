"""The operators as the benchmark runs them: inputs, the call, and what the work amounts to at least.

Every operator gets one item of 96 channels. Operations are fused multiply-adds, additions, multiplications and other
single instructions per number, by hand, of the least that the form which runs needs; an exponential counts 9 (rounding,
a polynomial of degree 6, scaling), a division 4. `train` adds the recomputation that saves memory.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dehaze_bench.ops import lti, selective_scan, ssd, wkv
from dehaze_bench.scans import hilbert, planar

CHANNELS, STATES = 96, 16
HEADS, SSD_STATES = 3, 64
ROUTES = 4

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Operator:
    """One operator: `run(inputs, order, backend)` gives y; `operations(L, train)` counts."""

    draw: Callable[[int, torch.device], Inputs]
    run: Callable[[Inputs, Tensor | None, str], Tensor]
    backends: Callable[[], Mapping[str, str]]
    operations: Callable[[int, bool], float]
    order: Callable[[str, int, torch.device], Tensor | None]


def single_order(name: str, num_tokens: int, device: torch.device) -> Tensor | None:
    """One route over a square grid; None, which the operators take as raster."""
    side = math.isqrt(num_tokens)
    if name == "raster":
        return None
    walks = {"columns": planar.columns, "hilbert": hilbert.hilbert, "random": planar.random}
    return torch.from_numpy(walks[name]((side, side))[0]).to(device)


def four_routes(name: str, num_tokens: int, device: torch.device) -> Tensor:
    """Four routes: one and its way back, twice; the cross scan; four random ones."""
    grid = (math.isqrt(num_tokens),) * 2
    walks = {
        "raster": lambda: planar.bidirectional(grid, copies=2),
        "columns": lambda: np.tile(planar.cross(grid)[1::2], (2, 1)),
        "hilbert": lambda: np.tile(hilbert.hilbert(grid, reverse=True), (2, 1)),
        "random": lambda: planar.random(grid, routes=ROUTES),
        "cross": lambda: planar.cross(grid),
    }
    return torch.from_numpy(walks[name]()).to(device)


def _normal(shape: tuple[int, ...], device: torch.device, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def _draw_scan(num_tokens: int, device: torch.device, routes: tuple[int, ...] = ()) -> Inputs:
    """Step sizes and state matrix of a freshly made Mamba block."""
    A = -torch.arange(1.0, STATES + 1, device=device).expand(*routes, CHANNELS, -1).contiguous()
    return {
        "u": _normal((1, num_tokens, CHANNELS), device, 0),
        "delta": _normal((1, num_tokens, *routes, CHANNELS), device, 1),
        "A": A,
        "B": _normal((1, num_tokens, *routes, STATES), device, 2),
        "C": _normal((1, num_tokens, *routes, STATES), device, 3),
        "D": torch.ones((*routes, CHANNELS), device=device),
        "delta_bias": torch.full((*routes, CHANNELS), -4.0, device=device),
    }


def _run_scan(x: Inputs, order: Tensor | None, backend: str) -> Tensor:
    y = selective_scan.selective_scan(
        x["u"], x["delta"], x["A"], x["B"], x["C"], x["D"],
        delta_bias_D=x["delta_bias"], delta_softplus=True, order_L=order, backend=backend,
    )  # fmt: skip
    assert isinstance(y, Tensor)
    return y


def _run_routes(x: Inputs, index: Tensor | None, backend: str) -> Tensor:
    y = selective_scan.selective_scan_routes(
        x["u"], x["delta"], x["A"], x["B"], x["C"], x["D"],
        delta_bias_KD=x["delta_bias"], delta_softplus=True, index_KS=index, backend=backend,
    )  # fmt: skip
    assert isinstance(y, Tensor)
    return y


def _draw_ssd(num_tokens: int, device: torch.device) -> Inputs:
    return {
        "x": _normal((1, num_tokens, HEADS, CHANNELS // HEADS), device, 0),
        "dt": _normal((1, num_tokens, HEADS), device, 1),
        "A": -torch.arange(1.0, HEADS + 1, device=device),
        "B": _normal((1, num_tokens, 1, SSD_STATES), device, 2),
        "C": _normal((1, num_tokens, 1, SSD_STATES), device, 3),
        "D": torch.ones(HEADS, device=device),
        "dt_bias": torch.full((HEADS,), -4.0, device=device),
    }


def _run_ssd(x: Inputs, order: Tensor | None, backend: str) -> Tensor:
    y = ssd.ssd(
        x["x"], x["dt"], x["A"], x["B"], x["C"], x["D"],
        dt_bias_H=x["dt_bias"], dt_softplus=True, order_L=order, backend=backend,
    )  # fmt: skip
    assert isinstance(y, Tensor)
    return y


def _draw_lti(num_tokens: int, device: torch.device) -> Inputs:
    modes = torch.complex(torch.tensor(-0.5), math.pi * torch.arange(STATES // 2))
    return {
        "u": _normal((1, num_tokens, CHANNELS), device, 0),
        "dt": torch.linspace(-7, -2, CHANNELS, device=device).exp(),
        "A": modes.expand(CHANNELS, -1).contiguous().to(device),
        "B": torch.ones((CHANNELS, STATES // 2), device=device),
        "C": _normal((CHANNELS, STATES // 2), device, 1),
        "D": torch.ones(CHANNELS, device=device),
    }


def _run_lti(x: Inputs, order: Tensor | None, backend: str) -> Tensor:
    return lti.lti(x["u"], x["dt"], x["A"], x["B"], x["C"], x["D"], order_L=order, backend=backend)


def _draw_wkv(num_tokens: int, device: torch.device) -> Inputs:
    return {
        "decay": torch.linspace(-5, 3, CHANNELS, device=device),
        "first": _normal((CHANNELS,), device, 0),
        "k": _normal((1, num_tokens, CHANNELS), device, 1),
        "v": _normal((1, num_tokens, CHANNELS), device, 2),
    }


def _run_wkv(x: Inputs, order: Tensor | None, backend: str) -> Tensor:
    return wkv.bi_wkv(x["decay"], x["first"], x["k"], x["v"], order_L=order, backend=backend)


def _scan_operations(num_tokens: int, train: bool, routes: int = 1) -> float:
    """Forward delta A, an exponential, the drive, the step, the readout; backward all but the last again, and nine."""
    return routes * num_tokens * CHANNELS * STATES * (13 + (12 + 9 if train else 0))


def _ssd_operations(num_tokens: int, train: bool) -> float:
    """Forward the drive, the step, the readout; backward the first two again, and six.

    Forward, matrix products over chunks of 32 need as many: inside half of a chunk, and with the states at its ends.
    """
    return num_tokens * CHANNELS * SSD_STATES * (3 + (2 + 6 if train else 0))


def _lti_operations(num_tokens: int, train: bool) -> float:
    """Three real transforms of twice the length, the kernel by modes; backward five transforms and both sums again."""
    transform = 2.5 * 2 * num_tokens * math.log2(2 * num_tokens) / 2
    kernel = num_tokens * STATES / 2 * 4
    return CHANNELS * ((3 + (5 if train else 0)) * transform + (3 if train else 1) * kernel)


def _wkv_operations(num_tokens: int, train: bool) -> float:
    """An exponential, two sums from each side, the mean; backward those again, their slopes, and two more sums."""
    return num_tokens * CHANNELS * (9 + 2 * 3 + 10 + (9 + 2 * 9 + 22 + 2 * 6 if train else 0))


OPERATORS = {
    "selective_scan": Operator(
        _draw_scan, _run_scan, selective_scan.available_backends, _scan_operations, single_order
    ),
    "selective_scan_4": Operator(
        functools.partial(_draw_scan, routes=(ROUTES,)),
        _run_routes,
        selective_scan.available_backends,
        functools.partial(_scan_operations, routes=ROUTES),
        four_routes,
    ),
    "ssd": Operator(_draw_ssd, _run_ssd, ssd.available_backends, _ssd_operations, single_order),
    "lti": Operator(_draw_lti, _run_lti, lti.available_backends, _lti_operations, single_order),
    "bi_wkv": Operator(_draw_wkv, _run_wkv, wkv.available_backends, _wkv_operations, single_order),
}

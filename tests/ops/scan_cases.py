"""Inputs of the selective scan and what comes of them, for several tests."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dehaze_bench.ops.backends import backend_status
from dehaze_bench.ops.selective_scan import selective_scan, selective_scan_routes

Inputs = dict[str, "Tensor | bool | str"]

needs_numba = pytest.mark.skipif(backend_status("numba") != "ok", reason=backend_status("numba"))
BACKENDS = ["reference", pytest.param("numba", marks=needs_numba)]

# batch, tokens, channels, groups, states; then softplus, order, and which optional inputs are there
CASES = {
    "plain": (2, 33, 7, 1, 4, False, False, ()),
    "one state": (1, 130, 50, 1, 1, True, True, ("D", "delta_bias")),
    "groups": (2, 70, 12, 4, 4, True, True, ("D", "delta_bias", "initial")),
    "everything": (2, 65, 101, 1, 16, True, True, ("D", "z", "delta_bias", "initial")),
    "no softplus": (1, 64, 48, 2, 4, False, True, ("z", "initial")),
    "one token": (3, 1, 5, 1, 16, True, False, ("D", "z")),
}

# batch, tokens, routes, steps, channels, groups, states; the kind of index (see `draw_index`), merge, optional inputs
ROUTES = {
    "raster": (2, 70, 2, 70, 20, 1, 4, "raster", "sum", ("D", "z", "delta_bias", "initial")),
    "permutations": (1, 130, 3, 130, 50, 2, 1, "permutations", "sum", ("D", "delta_bias")),
    "permutations apart": (2, 65, 2, 65, 101, 1, 16, "permutations", "none", ("D", "z", "delta_bias", "initial")),
    "skips": (1, 80, 4, 20, 17, 1, 16, "skips", "sum", ("D", "z", "delta_bias")),
    "repeats": (2, 9, 2, 150, 16, 1, 3, "repeats", "sum", ("D", "z", "initial")),
    "repeats apart": (1, 30, 3, 70, 40, 4, 17, "repeats", "none", ("D", "delta_bias")),
    "padding": (1, 40, 2, 66, 20, 2, 5, "padding", "sum", ("D", "z", "delta_bias", "initial")),
    "padding apart": (2, 40, 2, 49, 33, 1, 16, "padding", "none", ("z", "delta_bias")),
    "whole and other": (1, 67, 4, 67, 50, 1, 4, "whole and other", "sum", ("D", "z", "delta_bias")),
    "other and whole": (1, 67, 3, 67, 50, 1, 4, "other and whole", "none", ("D", "delta_bias")),
    "only padding": (1, 5, 1, 3, 4, 1, 2, "nothing", "sum", ("D", "delta_bias", "initial")),
}


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-12))


def draw(case: str, dtype: torch.dtype = torch.float32) -> Inputs:
    """Arguments of `selective_scan`."""
    batch, length, channels, groups, states, softplus, shuffled, optional = CASES[case]
    generator = torch.Generator().manual_seed(len(case))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    delta = normal(batch, length, channels)
    found: dict[str, Tensor] = {
        "u_BLD": normal(batch, length, channels),
        "delta_BLD": delta if softplus else delta.abs() * 0.3,
        "A_DN": -4 * torch.rand(channels, states, generator=generator),
        "B_BLGN": normal(batch, length, groups, states),
        "C_BLGN": normal(batch, length, groups, states),
    }
    extras = {
        "D": ("D_D", normal(channels)),
        "z": ("z_BLD", normal(batch, length, channels)),
        "delta_bias": ("delta_bias_D", normal(channels) - 1),
        "initial": ("initial_BDN", normal(batch, channels, states)),
    }
    found |= {extras[name][0]: extras[name][1] for name in optional}
    inputs: Inputs = {name: x.to(dtype).clone() for name, x in found.items()}
    inputs["delta_softplus"] = softplus
    if shuffled:
        inputs["order_L"] = torch.randperm(length, generator=generator)
    return inputs


def draw_routes(case: str, dtype: torch.dtype = torch.float32) -> Inputs:
    """Arguments of `selective_scan_routes`, with softplus where there is a bias."""
    batch, length, routes, steps, channels, groups, states, kind, merge, optional = ROUTES[case]
    generator = torch.Generator().manual_seed(len(case))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    softplus = "delta_bias" in optional
    delta = normal(batch, length, routes, channels)
    found: dict[str, Tensor] = {
        "u_BLD": normal(batch, length, channels),
        "delta_BLKD": delta if softplus else delta.abs() * 0.3,
        "A_KDN": -4 * torch.rand(routes, channels, states, generator=generator),
        "B_BLKGN": normal(batch, length, routes, groups, states),
        "C_BLKGN": normal(batch, length, routes, groups, states),
    }
    extras = {
        "D": ("D_KD", normal(routes, channels)),
        "z": ("z_BLD", normal(batch, length, channels)),
        "delta_bias": ("delta_bias_KD", normal(routes, channels) - 1),
        "initial": ("initial_BKDN", normal(batch, routes, channels, states)),
    }
    found |= {extras[name][0]: extras[name][1] for name in optional}
    inputs: Inputs = {name: x.to(dtype).clone() for name, x in found.items()}
    inputs |= {"delta_softplus": softplus, "merge": merge}
    index = draw_index(kind, length, routes, steps, generator)
    return inputs if index is None else inputs | {"index_KS": index}


def draw_index(kind: str, length: int, routes: int, steps: int, generator: torch.Generator) -> Tensor | None:
    def permutation() -> Tensor:
        return torch.randperm(length, generator=generator)[:steps]

    def other() -> Tensor:
        return torch.randint(-1, length, (steps,), generator=generator)

    if kind == "raster":
        return None
    rows = {
        "permutations": [permutation() for _ in range(routes)],
        "skips": [permutation() for _ in range(routes)],
        "repeats": [torch.randint(0, length, (steps,), generator=generator) for _ in range(routes)],
        "padding": [other() for _ in range(routes)],
        "whole and other": [permutation(), other(), permutation(), other()][:routes],
        "other and whole": [other(), permutation(), other()][:routes],
        "nothing": [torch.full((steps,), -1)] * routes,
    }[kind]
    return torch.stack(rows)


def leaves_of(inputs: Inputs) -> dict[str, Tensor]:
    return {name: x for name, x in inputs.items() if isinstance(x, Tensor) and x.is_floating_point()}


def run(inputs: Inputs, backend: str) -> dict[str, Tensor]:
    """Outputs and all gradients of a loss that looks at y and at the last state."""
    leaves = leaves_of(inputs)
    for x in leaves.values():
        x.grad = None
        x.requires_grad_()
    call = selective_scan if "delta_BLD" in inputs else selective_scan_routes
    y, last = call(**inputs, return_last_state=True, backend=backend)  # type: ignore[arg-type, operator]
    loss_of(y, last).backward()
    return {"y": y.detach(), "last": last.detach()} | {name: x.grad for name, x in leaves.items()}  # type: ignore[misc]


def loss_of(y: Tensor, last: Tensor) -> Tensor:
    weight = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).reshape(y.shape)
    return (y * weight.to(y.dtype)).sum() + last.square().sum()


def as_routes(inputs: Inputs) -> Inputs:
    """The arguments of `selective_scan` as one route of `selective_scan_routes`."""
    names = {"delta_BLD": "delta_BLKD", "B_BLGN": "B_BLKGN", "C_BLGN": "C_BLKGN", "initial_BDN": "initial_BKDN"}
    names |= {"A_DN": "A_KDN", "D_D": "D_KD", "delta_bias_D": "delta_bias_KD", "order_L": "index_KS"}
    axes = {"delta_BLD": 2, "B_BLGN": 2, "C_BLGN": 2, "initial_BDN": 1}
    return {names.get(n, n): x.unsqueeze(axes.get(n, 0)) if n in names else x for n, x in inputs.items()}  # type: ignore[union-attr]

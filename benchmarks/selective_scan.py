"""Speed and memory of the selective scan on the CPU: the Numba twin against two loops in plain torch.

    python benchmarks/selective_scan.py [--lengths 1024,4096,16384] [--threads 2] [--json FILE]

`published` has the structure of the reference loop that the Mamba repository ships: channels-first, exp(delta A) and
delta B u as full (B, D, L, N) tensors, then one step per token. Its gradient is taken with the tokens unbound, not
selected one by one: selecting makes autograd allocate a whole gradient per step, which is quadratic in L; so the
ratios for training are lower bounds. `reference` is this project's plain reference. "cross x4" is four routes over one
u, summed, with step sizes, B, C and constants of their own. Every figure is the median of repeats after a warm-up.
Extra memory is the peak of the resident set above that before the call, results included.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measuring  # before torch: it sets how threads wait
import torch
import torch.nn.functional as F
from measuring import describe_machine, extra_memory, measure_times
from torch import Tensor

from dehaze_bench.ops.selective_scan import selective_scan, selective_scan_routes
from dehaze_bench.scans.planar import columns, cross

BATCH, CHANNELS, STATES, ROUTES = 1, 96, 16, 4
CPU = torch.device("cpu")

Inputs = dict[str, Tensor]


def main() -> None:
    """Measure, print the table and write the JSON file where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lengths", default="1024,4096,16384", help="numbers of tokens, separated by commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write machine and rows here")
    options = parser.parse_args()
    print(f"medians of {options.repeats}, at least {measuring.SAMPLE:g} s each; the loops of torch: 3")
    torch.set_num_threads(options.threads)
    machine = describe_machine(CPU)
    print("  ".join(f"{key} {value}" for key, value in machine.items()))
    rows = []
    step(lambda x: scan(x, None, "numba"), draw_inputs(64), train=True)()  # compile, so that no figure contains it
    for length in [int(text) for text in options.lengths.split(",")]:
        rows += measure_length(length, options.repeats)
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


def measure_length(num_tokens: int, repeats: int) -> list[dict[str, Any]]:
    """Return one row per implementation, order and pass; what is compared takes turns."""
    inputs = draw_inputs(num_tokens)
    grid = (num_tokens // 128, 128)
    shuffled = torch.randperm(num_tokens, generator=torch.Generator().manual_seed(1))
    down = torch.from_numpy(columns(grid)[0].copy())
    routes = torch.from_numpy(cross(grid).copy())
    rows: list[dict[str, Any]] = []
    for train in (False, True):
        calls: dict[tuple[str, str], Callable[[Inputs], Tensor]] = {
            ("numba", "raster"): lambda x: scan(x, None, "numba"),
            ("numba", "columns"): lambda x: scan(x, down, "numba"),
            ("numba", "random"): lambda x: scan(x, shuffled, "numba"),
            ("numba", "cross x4"): lambda x: scan_cross(x, routes),
            ("reference", "raster"): lambda x: scan(x, None, "reference"),
            ("published", "raster"): lambda x, unbind=train: published_loop(x, unbind),
        }
        layouts = {"cross x4": spread(inputs), "published": channels_first(inputs)}
        steps = {
            key: step(call, layouts.get(key[1]) or layouts.get(key[0]) or inputs, train) for key, call in calls.items()
        }
        seconds = measure_times({key: steps[key] for key in steps if key[0] == "numba"}, repeats, CPU)
        seconds |= measure_times({key: steps[key] for key in steps if key[0] != "numba"}, 3, CPU)
        for (name, order), call in steps.items():
            taken = seconds[name, order]
            num_elements = BATCH * num_tokens * CHANNELS * STATES * (ROUTES if "x4" in order else 1)
            rows.append(
                {
                    "tokens": num_tokens,
                    "pass": "forward+backward" if train else "forward",
                    "implementation": name,
                    "order": order,
                    "ms": taken * 1e3,
                    "ns_per_element": taken * 1e9 / num_elements,
                    "speedup": seconds["published", "raster"] / taken,
                    "over_raster": taken / seconds[name, "raster"],
                    "extra_mib": extra_memory(call, CPU),
                }
            )
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


def spread(x: Inputs) -> Inputs:
    """Return the inputs of four routes over the same u: step sizes, B, C and constants of their own."""
    apart = {name: x[name].unsqueeze(2).repeat(1, 1, ROUTES, 1) for name in ("delta", "B", "C")}
    constants = {name: x[name].unsqueeze(0).repeat(ROUTES, *(1,) * x[name].ndim) for name in ("A", "D", "delta_bias")}
    return {"u": x["u"], **apart, **constants}


def scan_cross(x: Inputs, routes_KS: Tensor) -> Tensor:
    """Four routes, summed."""
    y = selective_scan_routes(
        x["u"],
        x["delta"],
        x["A"],
        x["B"],
        x["C"],
        x["D"],
        delta_bias_KD=x["delta_bias"],
        delta_softplus=True,
        index_KS=routes_KS,
        backend="numba",
    )
    assert isinstance(y, Tensor)
    return y


def channels_first(x: Inputs) -> Inputs:
    """Return the inputs in the layout that the published code takes: (B, D, L) and (B, N, L), contiguous."""
    return {name: t.transpose(1, 2).contiguous() if t.ndim == 3 else t for name, t in x.items()}


def published_loop(x: Inputs, unbind: bool) -> Tensor:
    """The structure of the published reference: everything of size B D L N first, then the recurrence."""
    u_BDL, B_BNL, C_BNL = x["u"], x["B"], x["C"]
    delta_BDL = F.softplus(x["delta"] + x["delta_bias"][:, None])
    decay_BDLN = torch.exp(torch.einsum("bdl,dn->bdln", delta_BDL, x["A"]))
    drive_BDLN = torch.einsum("bdl,bnl,bdl->bdln", delta_BDL, B_BNL, u_BDL)
    steps: list[tuple[Tensor, Tensor, Tensor]]
    if unbind:
        steps = list(zip(decay_BDLN.unbind(2), drive_BDLN.unbind(2), C_BNL.unbind(2), strict=True))
    else:
        steps = [(decay_BDLN[:, :, t], drive_BDLN[:, :, t], C_BNL[:, :, t]) for t in range(u_BDL.shape[2])]
    h_BDN = u_BDL.new_zeros(BATCH, CHANNELS, STATES)
    outputs = []
    for decay_BDN, drive_BDN, C_BN in steps:
        h_BDN = decay_BDN * h_BDN + drive_BDN
        outputs.append(torch.einsum("bdn,bn->bd", h_BDN, C_BN))
    return torch.stack(outputs, 2) + u_BDL * x["D"][:, None]


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


def print_table(rows: list[dict[str, Any]]) -> None:
    """One line per row; the speed-up is over `published` for the same length and pass."""
    print(f"B {BATCH}, D {CHANNELS}, N {STATES}")
    print(f"{'L':>6} {'pass':<17}{'implementation':<15}{'order':<9}{'ms':>10}{'ns/elem':>9}", end="")
    print(f"{'speed-up':>10}{'/raster':>9}{'MiB':>8}")
    for row in rows:
        ratio = f"{row['over_raster']:.2f}"
        memory = "" if row["extra_mib"] is None else f"{row['extra_mib']:.1f}"
        print(
            f"{row['tokens']:>6} {row['pass']:<17}{row['implementation']:<15}{row['order']:<9}{row['ms']:>10.2f}"
            f"{row['ns_per_element']:>9.3f}{row['speedup']:>10.1f}{ratio:>9}{memory:>8}"
        )


if __name__ == "__main__":
    main()

"""The Triton kernels, compiled for GPUs that need not be there: with what they are launched with, registers and spills.

Run as a script with a compute capability and cases, this file compiles and prints what it found; the tests run it so.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from dehaze_bench.ops import programs
from dehaze_bench.ops.selective_scan import gpu as scan_gpu
from dehaze_bench.ops.wkv import gpu as wkv_gpu

# name -> batch, tokens, routes, channels, groups, states, steps of an index or None, dtype, merged, all optional inputs
SCANS: dict[str, tuple[int, int, int, int, int, int, int | None, torch.dtype, bool, bool]] = {
    "mamba": (1, 4096, 4, 96, 1, 16, 4096, torch.float32, True, True),
    "one state": (2, 1024, 1, 384, 1, 1, None, torch.bfloat16, True, False),
    "many states": (1, 1024, 2, 192, 2, 64, 1100, torch.float32, False, True),
}
SCAN_KERNELS = {"scan_segments", "carry", "adjoint_segments", "scan_backward"}
WKV_KERNELS = {"side_segments", "carry_sides", "average_segments", "share_segments", "spread_segments"}
CAPABILITIES = {80: "sm_80", 90: "sm_90a"}


FAST, SLOW = ["mamba", "bi-WKV"], ["one state", "many states"]


class Compiled(NamedTuple):
    capability: int
    cases: list[str]
    launches: list[dict[str, Any]]  # what `measure` found, with the names of case and kernel


@pytest.fixture(
    scope="module",
    params=[
        *((capability, FAST) for capability in CAPABILITIES),
        *(pytest.param((capability, SLOW), marks=pytest.mark.slow) for capability in CAPABILITIES),
    ],
    ids=str,
)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Run this file in a process without the interpreter, and with an empty cache."""
    pytest.importorskip("triton")
    capability, cases = request.param
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    command = [sys.executable, __file__, str(capability), *cases]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Compiled(capability, cases, json.loads(done.stdout))


def test_every_kernel_compiles(compiled: Compiled) -> None:
    for case in compiled.cases:
        expected = WKV_KERNELS if case == "bi-WKV" else SCAN_KERNELS
        assert {x["kernel"] for x in compiled.launches if x["case"] == case} == expected, case
    assert {x["target"] for x in compiled.launches} == {CAPABILITIES[compiled.capability]}


def test_registers_and_spills_stay_within_budget(compiled: Compiled) -> None:
    """A multiprocessor's 65,536 registers hold 12 warps forward without a spill, and 8 backward, nearly without."""
    for x in compiled.launches:
        backward = x["kernel"] == "scan_backward"
        assert x["registers"] <= (255 if backward else 168), x
        assert x["local"] == 0, x
        assert x["stack"] <= (64 if backward else 0), x
        assert x["shared"] <= 16 * 1024, x


class Device:
    """Stands in for Triton's driver: it only says what to compile for."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def compile_all(capability: int, cases: list[str]) -> list[dict[str, Any]]:
    """Run both twins on CPU tensors with launches that compile and do nothing more."""
    import triton
    from triton.runtime.jit import JITFunction

    records: list[dict[str, Any]] = []
    run = JITFunction.run
    case = ""

    def compile_only(self: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
        kernel = run(self, *arguments, grid=grid, warmup=True, **options)
        records.append({"case": case, "kernel": self.fn.__name__} | measure(kernel.asm))

    triton.runtime.driver.set_active(Device(capability))
    JITFunction.run = compile_only
    programs.count_processors = lambda device: 132  # of an H100
    for name in cases:
        case = name
        if case == "bi-WKV":
            w, k = torch.zeros(192, dtype=torch.float64), torch.zeros(1, 4096, 192)
            order = torch.arange(4096)
            wkv_gpu.scan(w, w, k, k, order)
            wkv_gpu.scan_backward(k, w, w, k, k, order)
        else:
            launch_scan(*SCANS[case])
    return records


def launch_scan(
    batch: int,
    tokens: int,
    routes: int,
    channels: int,
    groups: int,
    states: int,
    steps: int | None,
    dtype: torch.dtype,
    merged: bool,
    full: bool,
) -> None:
    u = torch.zeros(batch, tokens, channels, dtype=dtype)
    delta = torch.zeros(batch, tokens, routes, channels, dtype=dtype)
    A = torch.zeros(routes, channels, states)
    B = torch.zeros(batch, tokens, routes, groups, states, dtype=dtype)
    D = A[:, :, 0] if full else None
    index = None if steps is None else torch.zeros(routes, steps, dtype=torch.int64)
    initial = torch.zeros(batch, routes, channels, states) if full else None
    given = (u, delta, A, B, B, D, u if full else None, D, True, index)
    y, last, saved = scan_gpu.scan(*given, initial, merged, True)
    scan_gpu.scan_backward(y.to(dtype), last, saved, *given, merged)


def measure(assembly: dict[str, Any]) -> dict[str, Any]:
    """Read target, registers, stack (where spilled registers go) and shared memory off a compiled kernel."""
    import triton

    cuobjdump = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(assembly["cubin"])
        cubin.flush()
        command = [str(cuobjdump), "--dump-resource-usage", cubin.name]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = {"registers": "REG", "stack": "STACK", "shared": "SHARED", "local": "LOCAL"}
    found: dict[str, Any] = {}
    for name, key in names.items():
        match = re.search(rf"\b{key}:(\d+)", shown)
        assert match is not None, shown
        found[name] = int(match[1])
    target = re.search(r"^\.target (\S+)", assembly["ptx"], re.MULTILINE)
    assert target is not None
    return found | {"target": target[1].rstrip(",")}


if __name__ == "__main__":
    print(json.dumps(compile_all(int(sys.argv[1]), sys.argv[2:])))

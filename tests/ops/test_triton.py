"""Backends and what `auto` makes of them, and the interpreter's tests in a process that begins with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dehaze_bench.environment import describe_environment
from dehaze_bench.errors import UsageError
from dehaze_bench.ops import backends
from dehaze_bench.ops.backends import BACKENDS, available_backends, choose_backend, preferred_backend

ROOT = Path(__file__).resolve().parents[2]


def test_kernels_agree_with_the_references_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/ops/test_triton_interpreted.py"]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout, done.stdout


@pytest.fixture
def all_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("numba_status", "triton_status"):
        monkeypatch.setattr(backends, name, lambda: "ok")
    monkeypatch.setattr(backends, "is_interpreted", lambda: False)


class Data:
    """What `choose_backend` looks at, for devices that are not here."""

    def __init__(self, device: str, dtype: torch.dtype = torch.float32) -> None:
        self.device, self.dtype = torch.device(device), dtype


@pytest.mark.usefixtures("all_work")
@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [
        ("cpu", torch.float32, "numba"),
        ("cpu", torch.bfloat16, "numba"),
        ("cuda", torch.float32, "triton"),
        ("cuda:1", torch.float16, "triton"),
        ("cpu", torch.float64, "reference"),
        ("cuda", torch.float64, "reference"),
        ("mps", torch.float32, "reference"),
        ("meta", torch.float32, "reference"),
    ],
)
def test_auto_takes_the_kernels_of_the_device(device: str, dtype: torch.dtype, expected: str) -> None:
    assert choose_backend("auto", Data(device, dtype)) == expected  # type: ignore[arg-type]
    assert choose_backend("auto", Data(device, dtype), ("reference",)) == "reference"  # type: ignore[arg-type]


def test_auto_falls_back_where_kernels_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("numba_status", "triton_status"):
        monkeypatch.setattr(backends, name, lambda: "missing")
    assert {preferred_backend(device) for device in ("cpu", "cuda")} == {"reference"}
    with pytest.raises(UsageError, match="backend 'triton' is not available: missing, or use backend='reference'"):
        choose_backend("triton", Data("cuda"))  # type: ignore[arg-type]


@pytest.mark.usefixtures("all_work")
@pytest.mark.parametrize(
    ("backend", "device", "dtype", "message"),
    [
        ("tritn", "cuda", torch.float32, "Did you mean 'triton'"),
        ("triton", "cpu", torch.float32, "on a CUDA device, not torch.float32 on cpu: use backend='reference'"),
        ("triton", "cuda", torch.float64, "takes float32, bfloat16 or float16"),
        ("numba", "cuda", torch.float32, "on the CPU, not torch.float32 on cuda"),
        ("vendor", "cpu", torch.float32, "on a CUDA device"),
    ],
)
def test_errors_name_the_thing_and_the_remedy(backend: str, device: str, dtype: torch.dtype, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_backend(backend, Data(device, dtype))  # type: ignore[arg-type]


def test_an_operator_may_offer_fewer() -> None:
    with pytest.raises(UsageError, match="no backend 'vendor' for this operator"):
        choose_backend("vendor", torch.ones(1), ("reference", "numba"))


def test_environment_says_what_is_available_and_what_auto_takes() -> None:
    found = describe_environment()
    assert set(found["backends"]) == set(BACKENDS)
    assert found["backends"] == available_backends()
    assert found["auto/cpu"] == preferred_backend("cpu")
    if not torch.cuda.is_available():
        assert found["auto/cuda"] == "no CUDA device"
        assert "no CUDA device" in found["backends"]["triton"] or "cannot be imported" in found["backends"]["triton"]


def test_twins_import_without_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import dehaze_bench.ops.selective_scan.gpu, dehaze_bench.ops.wkv.gpu\n"
        "from dehaze_bench.ops.backends import available_backends\n"
        "print(available_backends()['triton'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "triton cannot be imported" in done.stdout and "dehaze-bench[triton]" in done.stdout

"""The selective scan: golden values, fast against slow, gradients, tracing and counting, errors."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dehaze_bench.errors import UsageError
from dehaze_bench.ops.selective_scan import available_backends, reference, selective_scan
from dehaze_bench.ops.selective_scan.op import selective_scan_op
from tests.ops.scan_cases import BACKENDS, CASES, as_routes, draw, leaves_of, loss_of, needs_numba, relative, run

STORED = (
    "d_nosoftplus_n1_l37",
    "g4_n1_l37",
    "plain_n16_l37",
    "z_n16_l37",
    "z_nod_nobias_n4_l37",
)

TENSORS = (
    "u_BLD", "delta_BLKD", "A_KDN", "B_BLKGN", "C_BLKGN", "D_KD", "z_BLD", "delta_bias_KD", "index_KS", "initial_BKDN"
)  # fmt: skip


def check_golden(folder: Path, backend: str) -> None:
    spec = json.loads((folder / "spec.json").read_text())
    stored = {name: torch.from_numpy(array) for name, array in np.load(folder / "out.npz").items()}
    x = {name: stored[name] for name in spec["input"]["in_npz"]}
    for name in ("B", "C"):  # (batch, [group,] state, length) to (batch, length, [group,] state)
        x[name] = x[name].movedim(-1, 1)
    y, last = selective_scan(
        x["u"].mT,
        x["delta"].mT,
        x["A"],
        x["B"],
        x["C"],
        x.get("D"),
        x["z"].mT if "z" in x else None,
        x.get("delta_bias"),
        spec["build"]["delta_softplus"],
        return_last_state=True,
        backend=backend,
    )
    assert relative(y.mT, stored["out"]) < spec["tolerance"]
    assert relative(last, stored["last_state"]) < spec["tolerance"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", STORED)
def test_golden_values(golden: Path, name: str, backend: str) -> None:
    check_golden(golden / f"ops_selective_scan_{name}", backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_golden_values(shared: Path, backend: str) -> None:
    folders = sorted((shared / "golden").glob("ops_selective_scan_*"))
    assert len(folders) >= 8
    for folder in folders:
        check_golden(folder, backend)


@needs_numba
@pytest.mark.parametrize("case", CASES)
def test_numba_agrees_with_float64_reference(case: str) -> None:
    expected = run(draw(case, torch.float64), "reference")
    found = run(draw(case), "numba")
    assert found.keys() == expected.keys()
    for name in expected:
        assert relative(found[name], expected[name]) < 2e-6, name


@pytest.mark.parametrize("case", CASES)
def test_reference_backward_agrees_with_autograd(case: str) -> None:
    inputs = draw(case, torch.float64)
    closed_form = run(inputs, "reference")
    leaves = leaves_of(inputs)
    y, last = reference.scan(**as_routes(inputs))  # type: ignore[arg-type]
    found = torch.autograd.grad(loss_of(y, last.squeeze(1)), list(leaves.values()))
    for name, gradient in zip(leaves, found, strict=True):
        assert relative(gradient, closed_form[name]) < 1e-12, name


def test_gradcheck() -> None:
    inputs = draw("one token", torch.float64)
    inputs["u_BLD"], inputs["delta_BLD"], inputs["z_BLD"] = torch.randn(3, 1, 3, 5, dtype=torch.float64).unbind(0)
    inputs["B_BLGN"], inputs["C_BLGN"] = torch.randn(2, 1, 3, 1, 16, dtype=torch.float64).unbind(0)
    names = [n for n, x in inputs.items() if isinstance(x, Tensor)]
    tensors = [inputs[n].requires_grad_() for n in names]  # type: ignore[union-attr]

    def call(*xs: Tensor) -> tuple[Tensor, Tensor]:
        given = dict(zip(names, xs, strict=True))
        return selective_scan(  # type: ignore[return-value]
            **given, delta_softplus=True, order_L=torch.tensor([2, 0, 1]), return_last_state=True
        )

    assert torch.autograd.gradcheck(call, tensors)


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_equals_gather_scan_scatter(backend: str) -> None:
    inputs = draw("everything")
    order = inputs.pop("order_L")
    y = selective_scan(**inputs, order_L=order, backend=backend)  # type: ignore[arg-type]
    per_token = ("u_BLD", "delta_BLD", "B_BLGN", "C_BLGN", "z_BLD")
    gathered = {n: x[:, order] if n in per_token else x for n, x in inputs.items()}  # type: ignore[index]
    scanned = selective_scan(**gathered, backend=backend)  # type: ignore[arg-type]
    assert relative(y[:, order], scanned) < 1e-6  # type: ignore[index, arg-type]


@needs_numba
def test_softplus_is_accurate_in_both_tails() -> None:
    x = torch.cat([torch.linspace(-80, 19.99, 400), torch.linspace(20.01, 60, 80)])
    ones = torch.ones(1, 1, 480)
    zero = torch.zeros(480, 1)  # no decay: the state is delta * u
    y = selective_scan(ones, x[None, None], zero, ones[..., :1], ones[..., :1], delta_softplus=True, backend="numba")
    expected = torch.where(x > 20, x.double(), torch.log1p(torch.exp(x.double())))
    bound = 4e-7 + 1.2e-7 * x.double().abs()  # exp(x) in float32 cannot be better than the rounding of x * log2(e)
    assert bool(((y[0, 0].double() / expected - 1).abs() < bound).all())


@needs_numba
@pytest.mark.parametrize("low", [-86.0, -1.0, -1e-3])
def test_decay_is_accurate_to_float32(low: float) -> None:
    x = torch.linspace(low, -low if low > -2 else 80.0, 960)
    ones = torch.ones(1, 1, 960)
    y = selective_scan(
        torch.zeros(1, 1, 960), ones, x[:, None], ones[..., :1], ones[..., :1],
        initial_BDN=torch.ones(1, 960, 1), backend="numba",
    )  # fmt: skip
    bound = 2e-7 + 1.2e-7 * x.abs().double()
    assert bool(((y[0, 0].double() / torch.exp(x.double()) - 1).abs() < bound).all())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["u_BLD", "delta_BLD", "A_DN", "B_BLGN"])
def test_nan_is_not_hidden(name: str, backend: str) -> None:
    inputs = draw("plain")
    inputs[name].view(-1)[0] = float("nan")  # type: ignore[union-attr]
    assert selective_scan(**inputs, backend=backend).isnan().any()  # type: ignore[arg-type, union-attr]


@needs_numba
def test_slices_of_a_wider_tensor_and_transposed_views() -> None:
    inputs = draw("everything")
    plain = selective_scan(**inputs, backend="numba")  # type: ignore[arg-type]
    inputs["u_BLD"], inputs["z_BLD"] = torch.cat([inputs["u_BLD"], inputs["z_BLD"]], -1).chunk(2, -1)  # type: ignore[list-item]
    inputs["delta_BLD"] = inputs["delta_BLD"].mT.contiguous().mT  # type: ignore[union-attr]
    assert torch.equal(selective_scan(**inputs, backend="numba"), plain)  # type: ignore[arg-type]


@needs_numba
def test_result_does_not_depend_on_the_number_of_threads() -> None:
    inputs = draw("everything")
    del inputs["order_L"], inputs["initial_BDN"]
    for name, x in inputs.items():
        if isinstance(x, Tensor) and x.ndim > 2:
            inputs[name] = x.repeat(1, 30, *[1] * (x.ndim - 2))  # long enough to be worth threads
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run(inputs, "numba")
        torch.set_num_threads(3)
        three = run(inputs, "numba")
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one[name], three[name]) for name in one)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["plain", "everything"])
def test_opcheck(case: str, backend: str) -> None:
    x = as_routes(draw(case))
    for tensor in leaves_of(x).values():
        tensor.requires_grad_()
    torch.library.opcheck(
        selective_scan_op, (*[x.get(n) for n in TENSORS], x["delta_softplus"], True, True, backend, True)
    )


def test_meta_device_needs_no_memory() -> None:
    with torch.device("meta"):
        u = torch.empty(1, 2**26, 96)
        B = torch.empty(1, 2**26, 16)
        y, last = selective_scan(u, u, torch.empty(96, 16), B, B, return_last_state=True)
    assert (y.shape, last.shape, y.device.type) == (u.shape, (1, 96, 16), "meta")


@pytest.mark.parametrize("backend", BACKENDS)
def test_operations_are_counted_whatever_runs(backend: str) -> None:
    inputs = draw("groups")
    expected = 9 * 2 * 70 * 12 * 4
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        selective_scan(**inputs, backend=backend)  # type: ignore[arg-type]
    with FlopCounterMode(display=False) as both:
        run(inputs, backend)
    assert forward.get_total_flops() == expected
    # the loss multiplies elementwise, which torch does not count
    assert both.get_total_flops() == 3 * expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_runs_in_float32(backend: str) -> None:
    inputs = draw("everything")
    with torch.autocast("cpu", torch.bfloat16):
        half = dict(inputs, u_BLD=inputs["u_BLD"].bfloat16())  # type: ignore[union-attr]
        y, last = selective_scan(**half, return_last_state=True, backend=backend)  # type: ignore[arg-type]
    expected = selective_scan(**dict(half, u_BLD=half["u_BLD"].float()), backend=backend)  # type: ignore[arg-type, union-attr]
    assert (y.dtype, last.dtype) == (torch.float32, torch.float32)
    assert torch.equal(y, expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_keeps_its_dtype_and_float32_states(backend: str) -> None:
    inputs = {n: x.bfloat16() if isinstance(x, Tensor) and x.ndim > 2 else x for n, x in draw("groups").items()}
    found = run(inputs, backend)
    exact = run({n: x.detach().float() if isinstance(x, Tensor) and x.is_floating_point() else x
                 for n, x in inputs.items()}, backend)  # fmt: skip
    assert (found["y"].dtype, found["last"].dtype, found["A_DN"].dtype) == (
        torch.bfloat16,
        torch.float32,
        torch.float32,
    )
    assert relative(found["y"], exact["y"]) < 5e-3
    assert relative(found["last"], exact["last"]) < 1e-6


@needs_numba
def test_compiles_into_one_graph() -> None:
    inputs = draw("everything")
    call = torch.compile(lambda **x: selective_scan(**x), fullgraph=True, backend="eager")
    assert torch.equal(call(**inputs), selective_scan(**inputs))  # type: ignore[arg-type]


def _scan_in_child(queue: multiprocessing.Queue[float]) -> None:
    queue.put(float(selective_scan(**draw("everything"), backend="numba").sum()))  # type: ignore[arg-type, union-attr]


@needs_numba
@pytest.mark.skipif(sys.platform != "linux", reason="fork is the default on Linux only")
def test_runs_after_a_fork() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        expected = float(selective_scan(**draw("everything"), backend="numba").sum())  # type: ignore[arg-type, union-attr]
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_scan_in_child, args=(queue,))
        child.start()
        found = queue.get(timeout=60)
        child.join(timeout=60)
    finally:
        torch.set_num_threads(threads)
    assert (found, child.exitcode) == (expected, 0)


def test_import_does_not_import_numba() -> None:
    code = "import sys, dehaze_bench.ops.selective_scan, dehaze_bench.ops.wkv; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_numba_the_reference_runs() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import torch\n"
        "from dehaze_bench.ops.selective_scan import available_backends, selective_scan\n"
        "from dehaze_bench.ops.wkv import bi_wkv\n"
        "x = torch.ones(1, 3, 2)\n"
        "selective_scan(x, x, -torch.ones(2, 1), x[..., :1], x[..., :1])\n"
        "bi_wkv(torch.ones(2), torch.ones(2), x, x)\n"
        "print(available_backends()['numba'])\n"
        "try: selective_scan(x, x, -torch.ones(2, 1), x[..., :1], x[..., :1], backend='numba')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "numba cannot be imported" in done.splitlines()[0]
    assert done.splitlines()[1].startswith("UsageError backend 'numba' is not available")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delta_BLD": torch.ones(2, 33, 6)}, r"delta must be \(2, 33, 7\) .* channels-last"),
        ({"A_DN": torch.ones(6, 4)}, r"A must be \(7, 4\)"),
        ({"C_BLGN": torch.ones(2, 33, 1, 5)}, r"C must be \(2, 33, 1, 4\)"),
        ({"B_BLGN": torch.ones(2, 33, 2, 4)}, "7 channels cannot be split into 2 equal groups"),
        ({"u_BLD": torch.ones(33, 7)}, "u must be"),
        ({"initial_BDN": torch.ones(2, 4, 7)}, r"initial must be \(2, 7, 4\)"),
        ({"order_L": torch.arange(33).int()}, r"int64.*order\.long\(\)"),
        ({"order_L": torch.arange(32)}, r"order must be \(33,\)"),
        ({"order_L": torch.zeros(33, dtype=torch.int64)}, "each of the 33 tokens once"),
        ({"order_L": torch.arange(33) - 1}, "each of the 33 tokens once"),
        ({"order_L": torch.arange(33) + 10**12}, "each of the 33 tokens once"),
        ({"backend": "nubma"}, "Did you mean 'numba'"),
        ({"backend": "numba", "u_BLD": torch.ones(2, 33, 7, dtype=torch.float64)}, r"use backend='reference'"),
    ],
)
def test_errors_name_the_thing_and_the_remedy(change: dict[str, Tensor | str], message: str) -> None:
    if change.get("backend") == "numba" and available_backends()["numba"] != "ok":
        pytest.skip("numba is missing")
    with pytest.raises(UsageError, match=message):
        selective_scan(**(draw("plain") | change))  # type: ignore[arg-type, operator]

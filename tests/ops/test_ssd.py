"""The SSD: golden values, fast against slow, extreme decays, gradients, tracing and counting, errors."""

from __future__ import annotations

import json
import math
import sys
import types
from pathlib import Path
from typing import TypeGuard

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dehaze_bench.errors import UsageError
from dehaze_bench.ops import jobs
from dehaze_bench.ops import ssd as room
from dehaze_bench.ops.ssd import available_backends, chunked, cpu, reference, ssd
from dehaze_bench.ops.ssd.op import ssd_op

BACKENDS = ["reference", "numba", "chunked"]
EXACT = ["reference", "chunked"]  # those that take float64
FAST = ["numba", "chunked"]

# batch, tokens, heads, channels, groups, states, chunk; then softplus, order, limits, and the optional inputs given
CASES = {
    "plain": (2, 33, 3, 5, 1, 4, 8, False, False, (0.0, math.inf), ()),
    "skip": (1, 64, 2, 4, 1, 8, 16, True, False, (0.0, math.inf), ("D", "dt_bias")),
    "groups": (2, 37, 6, 3, 2, 5, 8, True, True, (0.0, math.inf), ("DP", "dt_bias", "initial")),
    "everything": (2, 65, 4, 7, 2, 6, 32, True, True, (0.2, 1.0), ("DP", "z", "dt_bias", "initial")),
    "one chunk": (3, 9, 2, 3, 1, 4, 64, False, True, (0.0, math.inf), ("z", "initial")),
    "one token": (2, 1, 4, 3, 4, 2, 64, True, False, (0.0, math.inf), ("D", "z")),
    # a head's 20 channels are two units of work for Numba, the second of which two jobs share out
    "wide": (1, 50, 3, 20, 1, 35, 16, True, True, (0.01, 2.0), ("D", "z", "dt_bias", "initial")),
}
NAMES = ("x_BLHP", "dt_BLH", "A_H", "B_BLGN", "C_BLGN", "D", "z_BLHP", "dt_bias_H", "order_L", "initial_BHPN")


def relative(found: Tensor, expected: Tensor) -> float:
    return float(
        (found.detach().double() - expected.detach().double()).norm()
        / expected.detach().double().norm().clamp(min=1e-12)
    )


def is_real(x: object) -> TypeGuard[Tensor]:
    return isinstance(x, Tensor) and x.is_floating_point()


def draw(case: str, dtype: torch.dtype = torch.float32) -> dict[str, object]:
    batch, length, heads, channels, groups, states, chunk, softplus, shuffled, limit, optional = CASES[case]
    generator = torch.Generator().manual_seed(len(case))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    dt = normal(batch, length, heads)
    found: dict[str, Tensor] = {
        "x_BLHP": normal(batch, length, heads, channels),
        "dt_BLH": dt if softplus else dt.abs() * 0.3,
        "A_H": -4 * torch.rand(heads, generator=generator),
        "B_BLGN": normal(batch, length, groups, states),
        "C_BLGN": normal(batch, length, groups, states),
    }
    extras = {
        "D": ("D", normal(heads)),
        "DP": ("D", normal(heads, channels)),
        "z": ("z_BLHP", normal(batch, length, heads, channels)),
        "dt_bias": ("dt_bias_H", normal(heads)),
        "initial": ("initial_BHPN", normal(batch, heads, channels, states)),
    }
    found |= {extras[name][0]: extras[name][1] for name in optional}
    inputs: dict[str, object] = {name: x.to(dtype).clone() for name, x in found.items()}
    inputs |= {"dt_softplus": softplus, "dt_limit": limit, "chunk": chunk}
    if shuffled:
        inputs["order_L"] = torch.randperm(length, generator=generator)
    return inputs


def run(inputs: dict[str, object], backend: str) -> dict[str, Tensor]:
    """Outputs and all gradients of a loss that looks at y and at the last state; "autograd" is the plain reference."""
    leaves = {n: x for n, x in inputs.items() if isinstance(x, Tensor) and x.is_floating_point()}
    for x in leaves.values():
        x.grad = None
        x.requires_grad_()
    if backend == "autograd":
        y, last = reference.scan(**{n: x for n, x in inputs.items() if n != "chunk"})  # type: ignore[arg-type]
    else:
        y, last = ssd(**inputs, return_last_state=True, backend=backend)  # type: ignore[arg-type]
    weight = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).reshape(y.shape)
    ((y * weight.to(y.dtype)).sum() + last.square().sum()).backward()
    return {"y": y.detach(), "last": last.detach()} | {name: x.grad for name, x in leaves.items()}  # type: ignore[misc]


@pytest.mark.parametrize("backend", BACKENDS)
def test_golden_values(golden: Path, backend: str) -> None:
    folder = golden / "ops_ssd_minimal"
    tolerance = json.loads((folder / "spec.json").read_text())["tolerance"]
    x = {name: torch.from_numpy(array) for name, array in np.load(folder / "out.npz").items()}
    dt = -x["A"]  # the fixture holds dt x and dt A
    for initial, out, final in (
        (None, "out", "final_state"),
        (x["initial_state"][:, 0], "out_with_initial", "final_with_initial"),
    ):
        y, last = ssd(
            x["X"] / dt[..., None], dt, -torch.ones(4), x["B"], x["C"],
            initial_BHPN=initial, return_last_state=True, chunk=24, backend=backend,
        )  # fmt: skip
        assert relative(y, x[out]) < tolerance
        assert relative(last, x[final]) < tolerance


def test_recurrence_equals_the_quadratic_form() -> None:
    inputs = draw("plain", torch.float64)
    arguments = [inputs[name] for name in NAMES[:5]]
    y, _ = reference.scan(*arguments)  # type: ignore[arg-type]
    assert relative(reference.attend(*arguments), y) < 1e-13  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES)
def test_float64_forms_agree_with_autograd_of_the_recurrence(case: str) -> None:
    expected = run(draw(case, torch.float64), "autograd")
    for backend in EXACT:
        found = run(draw(case, torch.float64), backend)
        assert found.keys() == expected.keys()
        for name in expected:
            assert relative(found[name], expected[name]) < 1e-12, (backend, name)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("case", CASES)
def test_fast_forms_are_accurate_to_float32(case: str, backend: str) -> None:
    expected = run(draw(case, torch.float64), "reference")
    found = run(draw(case), backend)
    for name in expected:
        assert relative(found[name], expected[name]) < 5e-7, name


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1000])
def test_the_result_does_not_depend_on_the_chunk(chunk: int, backend: str) -> None:
    dtype, tolerance = (torch.float32, 3e-7) if backend == "numba" else (torch.float64, 1e-12)
    expected = run(draw("everything", dtype), backend)
    found = run(draw("everything", dtype) | {"chunk": chunk}, backend)
    for name in expected:
        assert relative(found[name], expected[name]) < tolerance, name


def test_numba_gives_the_same_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "SMALL", 0)
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            found.append(run(draw("wide"), "numba"))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize(
    ("sequences", "units", "threads", "parts"), [(1, 6, 1, 1), (1, 6, 2, 2), (3, 6, 2, 2), (8, 6, 2, 1), (1, 3, 4, 3)]
)
def test_threads_get_about_as_much_to_do(sequences: int, units: int, threads: int, parts: int) -> None:
    assert cpu._share(sequences, units, threads) == parts


@pytest.mark.parametrize("weights", [1, 2 * 4 * 32**2, 3 * 4 * 32**2, 7 * 4 * 32**2])
def test_runs_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch, weights: int) -> None:
    """One chunk at a time, two of the three, all three of one item, those of both items."""
    expected = run(draw("everything"), "chunked")
    monkeypatch.setitem(chunked.WEIGHTS, "cpu", weights)
    found = run(draw("everything"), "chunked")
    for name in expected:
        assert relative(found[name], expected[name]) < 3e-7, name


@pytest.mark.parametrize("backend", FAST)
def test_a_step_that_forgets_everything_costs_the_others_no_digits(backend: str) -> None:
    """Each sum of logarithms in the chunk exceeds 1e4, where float32 has no digits left for its neighbours' decays."""
    inputs = draw("plain", torch.float64)
    inputs |= {"chunk": 32, "A_H": torch.tensor([-1.0, -1.0, -1e-3]).double()}
    inputs["dt_BLH"][:, 1] = 2e4  # type: ignore[index]
    expected = run(inputs, "reference")
    single = {n: x.detach().float() if isinstance(x, Tensor) else x for n, x in inputs.items()}
    found = run(single, backend)
    for name in ("y", "last", "x_BLHP", "dt_BLH", "A_H", "B_BLGN", "C_BLGN"):
        assert relative(found[name], expected[name]) < 5e-7, name
    # Nothing that such a step would let through is left, so it has no gradient but that of its own input.
    kept = found["x_BLHP"].mul(single["x_BLHP"]).sum(-1)[:, 1] / 2e4  # type: ignore[arg-type]
    assert relative(found["dt_BLH"][:, 1, :2], kept[:, :2]) < 1e-6


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("rate", [-30.0, -3.0, -1e-3, 0.5])
def test_any_decay_over_a_chunk_keeps_its_digits(rate: float, backend: str) -> None:
    """From a little growth to more decay than float32 has exponents for."""
    inputs = draw("wide") | {"A_H": torch.tensor([rate, rate / 2, rate / 4])}
    inputs |= {"chunk": 48, "dt_bias_H": torch.full((3,), -2.0), "order_L": torch.arange(50).flip(0)}
    expected = run({n: x.detach().double() if is_real(x) else x for n, x in inputs.items()}, "reference")
    found = run(inputs, backend)
    for name in expected:
        assert relative(found[name], expected[name]) < 5e-7, name


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("rate", [-1e6, -700.0, 0.0, 0.5])
def test_extreme_rates_stay_finite(rate: float, backend: str) -> None:
    inputs = draw("plain")
    inputs["A_H"] = torch.full((3,), rate)
    expected = run({n: x.detach().double() if isinstance(x, Tensor) else x for n, x in inputs.items()}, "reference")
    found = run(inputs, backend)
    for name in expected:
        assert bool(found[name].isfinite().all()), name
        # Where everything decays at once, the gradient of a rate is zero.
        assert relative(found[name], expected[name]) < 1e-6 or float(expected[name].abs().max()) < 1e-9, name


@pytest.mark.parametrize("backend", FAST)
def test_steps_of_no_length_leave_the_state_alone(backend: str) -> None:
    inputs = draw("wide") | {"dt_softplus": False, "dt_limit": (0.0, math.inf), "z_BLHP": None, "D": None}
    inputs |= {"dt_BLH": torch.zeros(1, 50, 3), "dt_bias_H": None}
    y, last = ssd(**inputs, return_last_state=True, backend=backend)  # type: ignore[arg-type]
    assert torch.equal(last, inputs["initial_BHPN"])  # type: ignore[arg-type]
    expected = torch.einsum("blgn,bhpn->blhp", inputs["C_BLGN"], last)  # type: ignore[arg-type]
    assert relative(y, expected) < 5e-7


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_equals_gather_scan_scatter(backend: str) -> None:
    inputs = draw("everything")
    order = inputs.pop("order_L")
    y = ssd(**inputs, order_L=order, backend=backend)  # type: ignore[arg-type]
    per_token = ("x_BLHP", "dt_BLH", "B_BLGN", "C_BLGN", "z_BLHP")
    gathered = {n: x[:, order] if n in per_token else x for n, x in inputs.items()}  # type: ignore[index]
    scanned = ssd(**gathered, backend=backend)  # type: ignore[arg-type]
    assert relative(y[:, order], scanned) < 1e-6  # type: ignore[index, arg-type]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES[:5])
def test_nan_is_not_hidden(name: str, backend: str) -> None:
    inputs = draw("plain")
    inputs[name].view(-1)[0] = float("nan")  # type: ignore[attr-defined]
    assert ssd(**inputs, backend=backend).isnan().any()  # type: ignore[arg-type, union-attr]


def test_slices_of_a_wider_tensor_and_missing_group_axes() -> None:
    inputs = draw("plain")
    plain = ssd(**inputs)  # type: ignore[arg-type]
    wide = torch.cat([inputs[n].flatten(2) for n in ("x_BLHP", "B_BLGN", "C_BLGN")], -1)  # type: ignore[attr-defined]
    x, B, C = wide.split([15, 4, 4], -1)
    inputs |= {"x_BLHP": x.unflatten(2, (3, 5)), "B_BLGN": B, "C_BLGN": C}
    assert torch.equal(ssd(**inputs), plain)  # type: ignore[arg-type]
    wide.requires_grad_()
    x, B, C = wide.split([15, 4, 4], -1)
    y = ssd(**(inputs | {"x_BLHP": x.unflatten(2, (3, 5)), "B_BLGN": B, "C_BLGN": C}))  # type: ignore[arg-type]
    (found,) = torch.autograd.grad(y.sum(), wide, retain_graph=True)  # a gradient of y without memory of its own
    (expected,) = torch.autograd.grad(y, wide, torch.ones_like(y))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("backend", EXACT)
def test_gradcheck(backend: str) -> None:
    small = {"x_BLHP": (1, 5, 2, 2), "dt_BLH": (1, 5, 2), "A_H": (2,), "B_BLGN": (1, 5, 1, 2), "C_BLGN": (1, 5, 1, 2)}
    small |= {"D": (2,), "z_BLHP": (1, 5, 2, 2), "dt_bias_H": (2,), "initial_BHPN": (1, 2, 2, 2)}
    tensors = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in small.values()]

    def call(*xs: Tensor) -> tuple[Tensor, Tensor]:
        return ssd(  # type: ignore[return-value]
            **dict(zip(small, xs, strict=True)), dt_softplus=True, dt_limit=(0.3, 2.0),
            order_L=torch.tensor([2, 0, 4, 1, 3]), return_last_state=True, chunk=2, backend=backend,
        )  # fmt: skip

    assert torch.autograd.gradcheck(call, tensors)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["plain", "everything"])
def test_opcheck(case: str, backend: str) -> None:
    x = draw(case)
    for tensor in x.values():
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            tensor.requires_grad_()
    arguments = (*[x.get(name) for name in NAMES], x["dt_softplus"], *x["dt_limit"], x["chunk"], backend, True)  # type: ignore[misc]
    torch.library.opcheck(ssd_op, arguments)


@pytest.mark.parametrize(("backend", "state"), [("chunked", (7, 6)), ("numba", (6, 7))])
def test_memory_for_the_backward_pass_is_one_state_per_chunk(backend: str, state: tuple[int, int]) -> None:
    x = draw("everything")
    arguments = (*[x.get(name) for name in NAMES], True, 0.0, math.inf, 32, backend)
    assert ssd_op(*arguments, True)[2].shape == (2, 3, 4, *state)
    assert ssd_op(*arguments, False)[2].numel() == 0


def test_meta_device_needs_no_memory() -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        x, B = torch.empty(1, 2**26, 12, 16), torch.empty(1, 2**26, 64)
        y, last = ssd(x, x[..., 0], torch.empty(12), B, B, return_last_state=True)
    assert (y.shape, last.shape, y.device.type) == (x.shape, (1, 12, 16, 64), "meta")
    assert counter.get_total_flops() == 5 * 2**26 * 12 * 16 * 64


@pytest.mark.parametrize("backend", BACKENDS)
def test_operations_are_counted_whatever_runs(backend: str) -> None:
    expected = 5 * 2 * 37 * 6 * 3 * 5
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        ssd(**draw("groups"), backend=backend)  # type: ignore[arg-type]
    with FlopCounterMode(display=False) as both:
        run(draw("groups"), backend)
    assert forward.get_total_flops() == expected
    assert both.get_total_flops() == 3 * expected  # the loss multiplies elementwise, which torch does not count


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_runs_in_float32(backend: str) -> None:
    half = draw("everything")
    half["x_BLHP"] = half["x_BLHP"].bfloat16()  # type: ignore[attr-defined]
    with torch.autocast("cpu", torch.bfloat16):
        found = run(half, backend)
    exact = dict(draw("everything"), x_BLHP=half["x_BLHP"].detach().float())  # type: ignore[attr-defined]
    expected = run(exact, backend)
    assert (found["y"].dtype, found["last"].dtype) == (torch.float32, torch.float32)
    assert all(torch.equal(found[n], expected[n]) for n in expected if n != "x_BLHP")
    assert torch.equal(found["x_BLHP"], expected["x_BLHP"].bfloat16())


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_keeps_its_dtype_and_float32_states(backend: str) -> None:
    inputs = {n: x.bfloat16() if isinstance(x, Tensor) and x.ndim > 2 else x for n, x in draw("groups").items()}
    found = run(inputs, backend)
    exact = {n: x.detach().float() if isinstance(x, Tensor) and x.is_floating_point() else x for n, x in inputs.items()}
    expected = run(exact, backend)
    assert (found["y"].dtype, found["last"].dtype, found["A_H"].dtype) == (torch.bfloat16, torch.float32, torch.float32)
    assert relative(found["y"], expected["y"]) < 5e-3
    assert relative(found["last"], expected["last"]) < 1e-6


def test_compiles_into_one_graph() -> None:
    inputs = draw("everything")
    call = torch.compile(lambda **x: ssd(**x), fullgraph=True, backend="eager")
    assert torch.equal(call(**inputs), ssd(**inputs))  # type: ignore[arg-type]


def test_the_vendor_path_sees_tokens_in_visiting_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the kernels: what is gathered, scattered and differentiated around them."""
    fake = types.ModuleType("dehaze_bench.ops.ssd.vendor")

    def scan(x: Tensor, dt: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
        *between, initial, chunk = rest
        assert chunk == 65
        return reference.scan(x, dt, *between, initial_BHPN=initial)  # type: ignore[arg-type]

    fake.scan, fake.status = scan, lambda: "ok"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dehaze_bench.ops.ssd.vendor", fake)
    monkeypatch.setattr(room, "_choose_backend", lambda backend, x: backend)
    expected = run(draw("everything", torch.float64), "reference")
    found = run(draw("everything", torch.float64) | {"chunk": 65}, "vendor")
    for name in expected:
        assert relative(found[name], expected[name]) < 1e-12, name


def test_a_cpu_takes_numba_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype, expected in ((torch.float32, "numba"), (torch.bfloat16, "numba"), (torch.float64, "chunked")):
        assert room._choose_backend("auto", torch.ones(1, dtype=dtype)) == expected
    assert room._choose_backend("auto", torch.ones(1, device="meta")) == "chunked"
    monkeypatch.setattr(room, "numba_status", lambda: "numba cannot be imported")
    assert room._choose_backend("auto", torch.ones(1)) == "chunked"
    with pytest.raises(UsageError, match=r"'numba' is not available: .* or use backend='chunked'"):
        ssd(**draw("plain"), backend="numba")  # type: ignore[arg-type]


def test_backends_say_why_they_are_off() -> None:
    found = available_backends()
    assert (found["reference"], found["chunked"]) == ("ok", "ok")
    for backend, place in (("vendor", "CUDA"), ("numba", "the CPU")):
        with pytest.raises(UsageError, match=rf"on {place}, not torch.float64 on cpu.*backend='chunked'"):
            ssd(**draw("plain", torch.float64), backend=backend)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dt_BLH": torch.ones(2, 33, 4)}, r"dt must be \(2, 33, 3\) .* channels-last"),
        ({"A_H": torch.ones(4)}, r"A must be \(3,\)"),
        ({"C_BLGN": torch.ones(2, 33, 1, 5)}, r"C must be \(2, 33, 1, 4\)"),
        ({"B_BLGN": torch.ones(2, 33, 2, 4)}, "3 heads cannot be split into 2 equal groups"),
        ({"B_BLGN": torch.ones(2, 4)}, "B must be"),
        ({"x_BLHP": torch.ones(2, 33, 15)}, "x must be"),
        ({"D": torch.ones(5)}, r"D must be \(3,\)"),
        ({"D": torch.ones(3, 4)}, r"D must be \(3, 5\)"),
        ({"initial_BHPN": torch.ones(2, 3, 4, 5)}, r"initial must be \(2, 3, 5, 4\)"),
        ({"order_L": torch.arange(33).int()}, r"int64.*order\.long\(\)"),
        ({"order_L": torch.zeros(33, dtype=torch.int64)}, "each of the 33 tokens once"),
        ({"dt_limit": (1.0, 0.5)}, "low <= high"),
        ({"chunk": 0}, "chunk >= 1"),
        ({"backend": "chunkd"}, "Did you mean 'chunked'"),
    ],
)
def test_errors_name_the_thing_and_the_remedy(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ssd(**(draw("plain") | change))  # type: ignore[arg-type]

"""The time-invariant state space: golden values, convolution against recurrence, initialisations, gradients, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dehaze_bench.errors import UsageError
from dehaze_bench.ops.lti import (
    available_backends,
    convolution,
    discretise,
    hippo_legs,
    initial_modes,
    kernel,
    lti,
    reference,
)
from dehaze_bench.ops.lti.op import lti_op

BACKENDS = list(available_backends())
NAMES = ("u_BLD", "dt_D", "A_DN", "B_DN", "C_DN", "D_D")

# batch, tokens, channels, modes; then discretisation, which of A, B, C are complex, order, and whether there is a skip
CASES = {
    "real": (2, 33, 3, 4, "zoh", "", False, False),
    "real bilinear": (1, 64, 5, 2, "bilinear", "", True, True),
    "complex": (2, 37, 3, 4, "zoh", "ABC", True, True),
    "complex bilinear": (2, 130, 4, 3, "bilinear", "ABC", False, True),
    "mixed": (1, 20, 2, 5, "zoh", "AC", True, False),
    "one token": (3, 1, 2, 3, "bilinear", "A", False, True),
}


def relative(found: Tensor, expected: Tensor) -> float:
    wide = torch.complex128 if expected.is_complex() else torch.float64
    return float((found.to(wide) - expected.to(wide)).norm() / expected.to(wide).norm().clamp(min=1e-12))


def draw(case: str, single: bool = False) -> dict[str, object]:
    batch, length, channels, modes, method, complexes, shuffled, skip = CASES[case]
    generator = torch.Generator().manual_seed(len(case))

    def normal(*shape: int, name: str = "") -> Tensor:
        kind = torch.complex128 if name and name in complexes else torch.float64
        return torch.randn(*shape, generator=generator, dtype=kind)

    A = normal(channels, modes, name="A")
    found = {
        "u_BLD": normal(batch, length, channels),
        "dt_D": torch.rand(channels, generator=generator, dtype=torch.float64),
        "A_DN": torch.complex(-A.real.abs(), 4 * A.imag) if A.is_complex() else -2 * A.abs(),
        "B_DN": normal(channels, modes, name="B"),
        "C_DN": normal(channels, modes, name="C"),
    }
    if skip:
        found["D_D"] = normal(channels)
    inputs: dict[str, object] = {name: to_single(x) if single else x for name, x in found.items()}
    inputs["discretization"] = method
    if shuffled:
        inputs["order_L"] = torch.randperm(length, generator=generator)
    return inputs


def to_single(x: Tensor) -> Tensor:
    return x.to(torch.complex64 if x.is_complex() else torch.float32)


def run(inputs: dict[str, object], backend: str) -> dict[str, Tensor]:
    """Output and all gradients; "autograd" is the plain recurrence."""
    leaves = {n: x for n, x in inputs.items() if isinstance(x, Tensor) and n != "order_L"}
    for x in leaves.values():
        x.grad = None
        x.requires_grad_()
    if backend == "autograd":
        A, B, C, dt = (inputs[name] for name in ("A_DN", "B_DN", "C_DN", "dt_D"))
        Abar, Bbar = discretise(A, B, dt, inputs["discretization"])  # type: ignore[arg-type]
        rest = (inputs.get("D_D"), inputs.get("order_L"))
        y = reference.scan(inputs["u_BLD"], Abar, Bbar, C, *rest)  # type: ignore[arg-type]
    else:
        y = lti(**inputs, backend=backend)  # type: ignore[arg-type]
    weight = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).reshape(y.shape)
    (y * weight.to(y.dtype)).sum().backward()
    return {"y": y.detach()} | {name: x.grad for name, x in leaves.items()}  # type: ignore[misc]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_golden_values(golden: Path, method: str, backend: str) -> None:
    x = {name: torch.from_numpy(array) for name, array in np.load(golden / "ops_lti_s4d" / "out.npz").items()}
    system = [x[name] for name in ("dt", "A", "B", "C")]
    assert relative(kernel(*system, 64, method), x[f"K_{method}"]) < 1e-14  # type: ignore[arg-type]
    for bound, inputs in (
        (1e-14, (x["u"].mT, *system, x["D"])),
        (2e-7, [v.float() for v in (x["u"].mT, *system, x["D"])]),
    ):
        y = lti(*inputs, discretization=method, backend=backend)
        assert relative(y.mT, x[f"y_{method}"]) < bound


@pytest.mark.parametrize("case", CASES)
def test_convolution_and_recurrence_agree_with_autograd(case: str) -> None:
    expected = run(draw(case), "autograd")
    for backend in BACKENDS:
        found = run(draw(case), backend)
        assert found.keys() == expected.keys()
        for name in expected:
            assert found[name].dtype == expected[name].dtype
            assert relative(found[name], expected[name]) < 1e-12, (backend, name)


@pytest.mark.parametrize("case", CASES)
def test_convolution_is_accurate_to_float32(case: str) -> None:
    inputs = draw(case, single=True)
    expected = run({n: x.detach().to(wide(x)) if isinstance(x, Tensor) else x for n, x in inputs.items()}, "reference")
    found = run(inputs, "fft")
    for name in expected:
        assert relative(found[name], expected[name]) < 2e-6, name


def wide(x: Tensor) -> torch.dtype:
    if x.is_complex():
        return torch.complex128
    return torch.float64 if x.is_floating_point() else x.dtype


def test_complex_modes_stand_for_conjugate_pairs() -> None:
    inputs = draw("complex")
    u, dt, A, B, C = (inputs[name] for name in NAMES[:5])
    Abar, Bbar = discretise(A, B, dt, "zoh")  # type: ignore[arg-type]
    both = [torch.cat([x, x.conj()], 1) for x in (Abar, Bbar, C)]  # type: ignore[attr-defined, arg-type]
    single = reference.scan(u, *both) / 2  # type: ignore[arg-type]
    assert relative(lti(u, dt, A, B, C), single) < 1e-12  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_discretisations_approach_the_differential_equation(method: str) -> None:
    """A constant input drives h' = A h + B to (exp(A t) - 1) B / A: zero-order hold exactly, bilinear in dt squared."""
    A, B = torch.tensor([[-1.5 + 3j]]).cdouble(), torch.tensor([[0.7 - 0.2j]]).cdouble()
    errors = []
    for num_tokens in (50, 100):
        u, dt = torch.ones(1, num_tokens, 1).double(), torch.tensor([2 / num_tokens], dtype=torch.float64)
        y = lti(u, dt, A, B, torch.ones(1, 1).double(), discretization=method)[0, -1, 0]
        errors.append(abs(float(y - 2 * ((torch.exp(2 * A) - 1) * B / A).real)))
    assert errors[1] < 1e-12 if method == "zoh" else 3.5 < errors[0] / errors[1] < 4.5


def test_modes_that_decay_at_once_or_never() -> None:
    """dt A = -2 makes the bilinear Abar zero, A = 0 makes the zero-order hold divide by nothing."""
    u = torch.randn(1, 40, 1, dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    for method, rate in (("bilinear", -2.0), ("zoh", 0.0), ("zoh", -1e5), ("zoh", -1e-12)):
        inputs: dict[str, object] = {"u_BLD": u, "dt_D": one[0], "A_DN": rate * one, "B_DN": one, "C_DN": one}
        inputs = {n: x.clone() for n, x in inputs.items()} | {"discretization": method}  # type: ignore[attr-defined]
        expected, found = run(inputs, "autograd"), run(inputs, "fft")
        for name in expected:
            assert bool(found[name].isfinite().all()), (method, rate, name)
            assert relative(found[name], expected[name]) < 1e-9 or float(expected[name].abs().max()) < 1e-9, name


def test_slow_modes_keep_their_digits_over_long_sequences() -> None:
    """Rates that live for 1e5 tokens: a power of a float32 Abar would be wrong by a percent."""
    dt, A = torch.tensor([1e-4, 1e-3]), torch.complex(-torch.tensor([[0.1], [1.0]]), torch.tensor([[3.0], [9.0]]))
    ones = torch.ones_like(A)
    steps = torch.arange(70_000, dtype=torch.float64)
    rate = dt.double()[:, None] * A.cdouble()
    expected = 2 * (torch.expm1(rate) / A.cdouble() * torch.exp(rate * steps)).real
    assert relative(kernel(dt, A, ones, ones, 70_000), expected) < 1e-11
    impulse = torch.zeros(1, 70_000, 2)
    impulse[:, 0] = 1
    assert relative(lti(impulse, dt, A, ones, ones)[0].mT, expected) < 1e-6


@pytest.mark.parametrize("length", [1, 2, 3, 63, 64, 65, 1000])
def test_no_wrapping_round_at_any_length(length: int) -> None:
    num_points = convolution.transform_length(length)
    assert num_points >= 2 * length - 1
    assert num_points <= 2.6 * length + 2
    u, K = torch.randn(1, 2, length, dtype=torch.float64), torch.randn(2, length, dtype=torch.float64)
    expected = torch.stack([(K[:, : t + 1].flip(1) * u[0, :, : t + 1]).sum(1) for t in range(length)], 1)
    assert relative(convolution.convolve(u, K)[0], expected) < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["real bilinear", "complex"])
def test_order_equals_gather_scan_scatter(case: str, backend: str) -> None:
    inputs = draw(case)
    order = inputs.pop("order_L")
    y = lti(**inputs, order_L=order, backend=backend)  # type: ignore[arg-type]
    gathered = dict(inputs, u_BLD=inputs["u_BLD"][:, order])  # type: ignore[index]
    assert relative(y[:, order], lti(**gathered, backend=backend)) < 1e-12  # type: ignore[index, arg-type]


def test_few_channels_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(draw("complex"), "fft")
    monkeypatch.setitem(convolution.BLOCK, "cpu", 1)
    found = run(draw("complex"), "fft")
    for name in expected:
        assert relative(found[name], expected[name]) < 1e-13, name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_nan_is_not_hidden(name: str, backend: str) -> None:
    inputs = draw("complex")
    inputs[name].view(-1)[0] = float("nan")  # type: ignore[attr-defined]
    assert lti(**inputs, backend=backend).isnan().any()  # type: ignore[arg-type]


def test_initial_modes_are_the_papers() -> None:
    A, B = initial_modes("lin", 8)
    assert torch.allclose(A, torch.tensor([-0.5, -0.5 + torch.pi * 1j, -0.5 + torch.pi * 2j, -0.5 + torch.pi * 3j]))
    assert torch.equal(B, torch.ones(4, dtype=torch.complex64))
    A, _ = initial_modes("inv", 8)
    assert torch.allclose(A.imag * torch.pi / 8, torch.tensor([7.0, 5 / 3, 0.6, 1 / 7]))
    assert torch.equal(initial_modes("real", 3)[0], torch.tensor([-1.0, -2.0, -3.0]))
    A, _ = initial_modes("random", 64)
    assert bool((A.real < 0).all())
    assert bool((A.real >= -1).all())


@pytest.mark.parametrize("num_states", [2, 8, 64])
def test_diagonal_legs_is_the_normal_part_of_hippo(num_states: int) -> None:
    A_NN, B_N = hippo_legs(num_states)
    n = np.arange(num_states)
    assert np.allclose(np.tril(A_NN, -1), -np.tril(np.sqrt(np.outer(2 * n + 1, 2 * n + 1)), -1))
    assert np.allclose(np.diag(A_NN), -(n + 1))
    assert np.allclose(np.triu(A_NN, 1), 0)
    normal = torch.from_numpy(A_NN + np.sqrt(np.outer(n + 0.5, n + 0.5)))
    A, B = initial_modes("legs", num_states)
    assert len(A) == num_states // 2
    # The impulse response of both, seen through C = B: independent of the basis.
    for t in (0.0, 0.1, 1.0):
        dense = torch.from_numpy(B_N) @ torch.matrix_exp(t * normal) @ torch.from_numpy(B_N)
        modes = 2 * (B.conj() * torch.exp(t * A) * B).real.sum()
        assert float(modes) == pytest.approx(float(dense), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_gradcheck(method: str, backend: str) -> None:
    shapes: list[tuple[tuple[int, ...], torch.dtype]] = [((1, 5, 2), torch.float64), ((2,), torch.float64)]
    shapes += [((2, 3), torch.complex128)] * 3 + [((2,), torch.float64)]
    tensors = [torch.randn(shape, dtype=kind) * 0.5 for shape, kind in shapes]
    tensors[1] = tensors[1].abs() + 0.1
    tensors[2] = torch.complex(-tensors[2].real.abs(), tensors[2].imag)

    def call(*xs: Tensor) -> Tensor:
        return lti(*xs, order_L=torch.tensor([2, 0, 4, 1, 3]), discretization=method, backend=backend)

    assert torch.autograd.gradcheck(call, [x.requires_grad_() for x in tensors])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["real", "complex"])
def test_opcheck(case: str, backend: str) -> None:
    x = draw(case, single=True)
    inputs = [x.get(name) for name in NAMES]
    for tensor in inputs:
        if isinstance(tensor, Tensor):
            tensor.requires_grad_()
    torch.library.opcheck(lti_op, (*inputs, x.get("order_L"), x["discretization"], backend))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["real", "complex"])
def test_operations_are_counted_whatever_runs(case: str, backend: str) -> None:
    batch, length, channels, modes = CASES[case][:4]
    points = 2 * length
    transform = 2.5 * points * np.log2(points)
    powers = (4 if case == "complex" else 2) * length * modes
    expected = int(channels * (powers + transform + batch * (2 * transform + 3 * points)))
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        lti(**draw(case), backend=backend)  # type: ignore[arg-type]
    with FlopCounterMode(display=False) as both:
        run(draw(case), backend)
    assert forward.get_total_flops() == expected
    assert both.get_total_flops() == 3 * expected


def test_meta_device_needs_no_memory() -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        u, A = torch.empty(1, 2**26, 96), torch.empty(96, 32)
        y = lti(u, A[:, 0], A, A, A, A[:, 0])
    assert (y.shape, y.device.type) == (u.shape, "meta")
    assert counter.get_total_flops() > 2**26 * 96 * 32


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_and_autocast(backend: str) -> None:
    inputs = draw("complex", single=True)
    inputs["u_BLD"] = inputs["u_BLD"].bfloat16()  # type: ignore[attr-defined]
    expected = run(dict(inputs, u_BLD=inputs["u_BLD"].float()), backend)  # type: ignore[attr-defined]
    found = run(inputs, backend)
    assert (found["y"].dtype, found["u_BLD"].dtype, found["A_DN"].dtype) == (
        torch.bfloat16,
        torch.bfloat16,
        torch.complex64,
    )
    assert torch.equal(found["y"], expected["y"].bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        found = run(inputs, backend)
    assert found["y"].dtype == torch.float32
    assert all(torch.equal(found[n], expected[n]) for n in expected if n != "u_BLD")


def test_compiles_into_one_graph() -> None:
    inputs = draw("real bilinear", single=True)
    call = torch.compile(lambda **x: lti(**x), fullgraph=True, backend="eager")
    assert torch.equal(call(**inputs), lti(**inputs))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u_BLD": torch.ones(33, 3)}, "u must be"),
        ({"A_DN": torch.ones(4, 3)}, r"A must be \(3, modes\)"),
        ({"B_DN": torch.ones(3, 5)}, r"B must be \(3, 4\)"),
        ({"dt_D": torch.ones(4)}, r"dt must be \(3,\)"),
        ({"C_DN": torch.ones(3, 4, dtype=torch.complex64)}, "C is complex but A is real"),
        ({"order_L": torch.arange(33).int()}, r"int64.*order\.long\(\)"),
        ({"order_L": torch.zeros(33, dtype=torch.int64)}, "each of the 33 tokens once"),
        ({"discretization": "zho"}, "Did you mean 'zoh'"),
        ({"backend": "ftf"}, "Did you mean 'fft'"),
    ],
)
def test_errors_name_the_thing_and_the_remedy(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        lti(**(draw("real") | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "num_states", "message"),
    [("legz", 8, "Did you mean 'legs'"), ("lin", 7, "even and positive"), ("real", 0, "positive")],
)
def test_bad_initialisations(name: str, num_states: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        initial_modes(name, num_states)

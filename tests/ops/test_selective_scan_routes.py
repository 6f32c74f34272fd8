"""Several routes over one sequence: fast against slow, against single scans, padding and repeats, memory, tracing."""

from __future__ import annotations

import tracemalloc

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dehaze_bench.errors import UsageError
from dehaze_bench.ops.selective_scan import cpu, reference, selective_scan, selective_scan_routes
from dehaze_bench.ops.selective_scan.op import selective_scan_op
from tests.ops.scan_cases import (
    BACKENDS,
    ROUTES,
    as_routes,
    draw,
    draw_routes,
    leaves_of,
    loss_of,
    needs_numba,
    relative,
    run,
)

TENSORS = (
    "u_BLD", "delta_BLKD", "A_KDN", "B_BLKGN", "C_BLKGN", "D_KD", "z_BLD", "delta_bias_KD", "index_KS", "initial_BKDN"
)  # fmt: skip


@needs_numba
@pytest.mark.parametrize("case", ROUTES)
def test_numba_agrees_with_float64_reference(case: str) -> None:
    expected = run(draw_routes(case, torch.float64), "reference")
    found = run(draw_routes(case), "numba")
    assert found.keys() == expected.keys()
    for name in expected:
        assert relative(found[name], expected[name]) < 2e-6, name


@pytest.mark.parametrize("case", ROUTES)
def test_reference_backward_agrees_with_autograd(case: str) -> None:
    inputs = draw_routes(case, torch.float64)
    closed_form = run(inputs, "reference")
    leaves = leaves_of(inputs)
    merged = inputs.pop("merge") == "sum"
    y, last = reference.scan(**inputs, merged=merged)  # type: ignore[arg-type]
    found = torch.autograd.grad(loss_of(y, last), list(leaves.values()), allow_unused=True, materialize_grads=True)
    for name, gradient in zip(leaves, found, strict=True):
        assert relative(closed_form[name], gradient) < 1e-12, name


@pytest.mark.parametrize("merge", ["sum", "none"])
def test_gradcheck(merge: str) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {"u_BLD": (1, 3, 2), "delta_BLKD": (1, 3, 2, 2), "A_KDN": (2, 2, 2), "B_BLKGN": (1, 3, 2, 1, 2)}
    shapes |= {"C_BLKGN": (1, 3, 2, 1, 2), "D_KD": (2, 2), "z_BLD": (1, 3, 2), "delta_bias_KD": (2, 2)}
    shapes |= {"initial_BKDN": (1, 2, 2, 2)}
    tensors = [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes.values()]
    index_KS = torch.tensor([[2, 0, -1, 2], [1, -1, 0, 2]])

    def call(*xs: Tensor) -> tuple[Tensor, Tensor]:
        given = dict(zip(shapes, xs, strict=True))
        options = {"delta_softplus": True, "index_KS": index_KS, "merge": merge, "return_last_state": True}
        return selective_scan_routes(**given, **options)  # type: ignore[arg-type, return-value]

    assert torch.autograd.gradcheck(call, tensors)


def one_by_one(inputs: dict[str, Tensor | bool | str], backend: str) -> tuple[Tensor, Tensor]:
    """Each route as a single raster scan over gathered tokens, zeros for padding; then scattered. y is (B, L, K, D)."""
    u_BLD, index_KS = inputs["u_BLD"], inputs.get("index_KS")
    assert isinstance(u_BLD, Tensor)
    outputs, states = [], []
    for k in range(inputs["A_KDN"].shape[0]):  # type: ignore[union-attr]
        tokens = torch.arange(u_BLD.shape[1]) if index_KS is None else index_KS[k]  # type: ignore[index]
        kept = (tokens >= 0)[:, None]

        def gather(x: Tensor, tokens: Tensor = tokens, kept: Tensor = kept) -> Tensor:
            return x[:, tokens] * (kept if x.ndim == 3 else kept[..., None])

        route = {n: x[k] for n, x in inputs.items() if n in ("A_KDN", "D_KD", "delta_bias_KD")}  # type: ignore[index]
        y_BSD, last_BDN = selective_scan(
            gather(u_BLD),
            gather(inputs["delta_BLKD"][:, :, k]),  # type: ignore[index]
            route["A_KDN"],
            gather(inputs["B_BLKGN"][:, :, k]),  # type: ignore[index]
            gather(inputs["C_BLKGN"][:, :, k]),  # type: ignore[index]
            route.get("D_KD"),
            gather(inputs["z_BLD"]) if "z_BLD" in inputs else None,  # type: ignore[arg-type]
            route.get("delta_bias_KD"),
            bool(inputs["delta_softplus"]),
            initial_BDN=inputs["initial_BKDN"][:, k] if "initial_BKDN" in inputs else None,  # type: ignore[index]
            return_last_state=True,
            backend=backend,
        )
        outputs.append(torch.zeros_like(u_BLD).index_add(1, tokens[kept[:, 0]], y_BSD[:, kept[:, 0]]))
        states.append(last_BDN)
    return torch.stack(outputs, 2), torch.stack(states, 1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ROUTES)
def test_routes_equal_single_scans_of_gathered_tokens(case: str, backend: str) -> None:
    inputs = draw_routes(case)
    y_BLKD, last_BKDN = one_by_one(inputs, backend)
    for merge, expected in (("sum", y_BLKD.sum(2)), ("none", y_BLKD)):
        y, last = selective_scan_routes(**inputs | {"merge": merge}, return_last_state=True, backend=backend)  # type: ignore[arg-type]
        assert y.shape == expected.shape
        assert relative(y, expected) < 1e-6
        assert relative(last, last_BKDN) < 1e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_cross_scan_equals_four_single_scans_with_gradients(backend: str) -> None:
    """Rows, columns and both reversed, as VMamba crosses an image."""
    height, width, generator = 9, 14, torch.Generator().manual_seed(3)
    rows = torch.arange(height * width)
    columns = rows.view(height, width).T.flatten()
    index_KS = torch.stack([rows, columns, rows.flip(0), columns.flip(0)])

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    length, channels, states = height * width, 24, 4
    inputs = {"u_BLD": normal(1, length, channels), "delta_BLKD": normal(1, length, 4, channels)}
    inputs |= {"A_KDN": -normal(4, channels, states).exp(), "B_BLKGN": normal(1, length, 4, states)}
    inputs |= {
        "C_BLKGN": normal(1, length, 4, states),
        "D_KD": normal(4, channels),
        "delta_bias_KD": normal(4, channels),
    }
    weight = normal(1, length, channels)
    for x in inputs.values():
        x.requires_grad_()
    y = selective_scan_routes(**inputs, delta_softplus=True, index_KS=index_KS, backend=backend)  # type: ignore[arg-type]
    found = torch.autograd.grad((y * weight).sum(), list(inputs.values()))  # type: ignore[operator]
    single = torch.zeros(())
    for k in range(4):
        axis = {"delta_BLKD": 2, "B_BLKGN": 2, "C_BLKGN": 2, "A_KDN": 0, "D_KD": 0, "delta_bias_KD": 0}
        u, delta, A, B, C, D, bias = (x.select(axis[n], k) if n in axis else x for n, x in inputs.items())
        single = single + selective_scan(u, delta, A, B, C, D, None, bias, True, index_KS[k], backend=backend)
    expected = torch.autograd.grad((single * weight).sum(), list(inputs.values()))
    assert relative(y.detach(), single.detach()) < 1e-6  # type: ignore[union-attr]
    for name, a, b in zip(inputs, found, expected, strict=True):
        assert relative(a, b) < 2e-6, name


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_route_is_the_single_scan(backend: str) -> None:
    inputs = draw("everything")
    y, last = selective_scan(**inputs, return_last_state=True, backend=backend)  # type: ignore[arg-type]
    y_, last_ = selective_scan_routes(**as_routes(inputs), return_last_state=True, backend=backend)  # type: ignore[arg-type]
    assert torch.equal(y, y_)
    assert torch.equal(last, last_.squeeze(1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_skipped_tokens_get_nothing_and_padding_decays(backend: str) -> None:
    ones = torch.ones(1, 4, 1, 1)
    bias = torch.full((1, 1), 0.5)
    y, last = selective_scan_routes(
        torch.ones(1, 4, 1), 3 * ones, -torch.ones(1, 1, 1), ones, ones, torch.ones(1, 1), None, bias, True,
        torch.tensor([[2, -1]]), return_last_state=True, backend=backend,
    )  # fmt: skip
    step = torch.nn.functional.softplus(torch.tensor([3.5, 0.5]))
    torch.testing.assert_close(y.flatten(), torch.tensor([0, 0, float(step[0]) + 1, 0]))
    torch.testing.assert_close(last.flatten(), step[:1] * torch.exp(-step[1]))


@needs_numba
def test_result_does_not_depend_on_the_number_of_threads() -> None:
    inputs = draw_routes("other and whole")
    index = inputs["index_KS"]
    assert isinstance(index, Tensor)
    inputs["index_KS"] = index.repeat(1, 60)  # long enough to be worth threads
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run(inputs, "numba")
        torch.set_num_threads(5)
        five = run(inputs, "numba")
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one[name], five[name]) for name in one)


def peak_of_arrays(call: object) -> int:
    tracemalloc.start()
    try:
        call()  # type: ignore[operator]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@needs_numba
@pytest.mark.parametrize("order", ["raster", "permutations"])
def test_memory_is_one_state_per_chunk_and_no_copy_per_route(order: str) -> None:
    """NumPy's allocations are traced: results, saved states, and partial sums of the gradients of B and C."""
    length, routes, channels, states = 4096, 4, 64, 4
    generator = torch.Generator().manual_seed(0)
    delta = torch.randn(1, length, routes, channels, generator=generator)
    B = torch.randn(1, length, routes, 1, states, generator=generator)
    index = None if order == "raster" else torch.stack([torch.randperm(length) for _ in range(routes)])
    data = (
        delta[:, :, 0].contiguous(),
        delta,
        -torch.rand(routes, channels, states),
        B,
        B,
        None,
        None,
        None,
        True,
        index,
    )
    y_bytes, small = 4 * length * channels, 1 << 17
    cpu.scan(*data, None, True, False)  # what is loaded or made once is no part of it
    assert peak_of_arrays(lambda: cpu.scan(*data, None, True, False)) < y_bytes + small
    assert peak_of_arrays(lambda: cpu.scan(*data, None, False, False)) < routes * y_bytes + small
    saved = cpu.scan(*data, None, True, True)[2]
    assert saved.shape == cpu.states_shape(1, routes, length, channels, states)
    assert saved.numel() == routes * length // cpu.CHUNK * states * channels
    assert peak_of_arrays(lambda: cpu.scan(*data, None, True, True)) < y_bytes + 4 * saved.numel() + small
    dlast = torch.zeros(1, routes, channels, states)
    gradients = (1 + routes) * y_bytes + 2 * (cpu.MAX_PARTS + 1) * 4 * B.numel()
    assert peak_of_arrays(lambda: cpu.scan_backward(data[0], dlast, saved, *data, True)) < gradients + small


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["padding", "permutations apart"])
def test_opcheck(case: str, backend: str) -> None:
    x = draw_routes(case)
    for tensor in leaves_of(x).values():
        tensor.requires_grad_()
    options = (x["delta_softplus"], x["merge"] == "sum", False, backend, True)
    torch.library.opcheck(selective_scan_op, (*[x.get(name) for name in TENSORS], *options))


def test_meta_device_needs_no_memory() -> None:
    with torch.device("meta"):
        u, delta = torch.empty(1, 2**26, 96), torch.empty(1, 2**26, 4, 96)
        B, A = torch.empty(1, 2**26, 4, 16), torch.empty(4, 96, 16)
        index = torch.empty(4, 2**20, dtype=torch.int64)
        y, last = selective_scan_routes(u, delta, A, B, B, index_KS=index, return_last_state=True)
        apart = selective_scan_routes(u, delta, A, B, B, index_KS=index, merge="none")
    assert (y.shape, last.shape, apart.shape) == (u.shape, (1, 4, 96, 16), delta.shape)  # type: ignore[union-attr]


@pytest.mark.parametrize("backend", BACKENDS)
def test_operations_are_counted_per_route_and_step(backend: str) -> None:
    inputs = draw_routes("skips")
    with FlopCounterMode(display=False) as both:
        run(inputs, backend)
    assert both.get_total_flops() == 3 * 9 * 1 * 4 * 20 * 17 * 16


@needs_numba
def test_compiles_into_one_graph() -> None:
    inputs = draw_routes("whole and other")
    call = torch.compile(lambda **x: selective_scan_routes(**x), fullgraph=True, backend="eager")
    assert torch.equal(call(**inputs), selective_scan_routes(**inputs))  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_keeps_its_dtype_and_float32_states(backend: str) -> None:
    inputs = draw_routes("permutations apart")
    narrow = ("u_BLD", "delta_BLKD", "z_BLD")
    half = {n: x.bfloat16() if isinstance(x, Tensor) and n in narrow else x for n, x in inputs.items()}
    found = run(half, backend)
    exact = run({n: x.detach().float() if n in leaves_of(half) else x for n, x in half.items()}, backend)  # type: ignore[union-attr]
    kinds = (found["y"].dtype, found["delta_BLKD"].dtype, found["last"].dtype)
    assert kinds == (torch.bfloat16, torch.bfloat16, torch.float32)
    assert relative(found["y"], exact["y"]) < 5e-3
    assert relative(found["last"], exact["last"]) < 1e-6
    assert relative(found["u_BLD"], exact["u_BLD"]) < 1e-2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delta_BLKD": torch.ones(1, 40, 1, 20)}, r"delta must be \(1, 40, 2, 20\)"),
        ({"A_KDN": torch.ones(20, 5)}, r"A must be \(routes, channels, states\)"),
        ({"D_KD": torch.ones(20)}, r"D must be \(2, 20\)"),
        ({"B_BLKGN": torch.ones(1, 40, 2, 3, 5)}, "20 channels cannot be split into 3 equal groups"),
        ({"index_KS": torch.zeros(3, 5, dtype=torch.int64)}, r"index must be \(2, steps\), one row per route"),
        ({"index_KS": torch.zeros(2, 5)}, r"index must be int64.*index\.long\(\)"),
        ({"index_KS": torch.full((2, 5), 40)}, "ids from 40 to 40: those of 40 tokens are 0 to 39, and -1 is padding"),
        ({"index_KS": torch.full((2, 5), -2)}, "ids from -2 to -2"),
        ({"merge": "mean"}, "no merge 'mean'"),
    ],
)
def test_errors_name_the_thing_and_the_remedy(change: dict[str, Tensor | str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        selective_scan_routes(**(draw_routes("padding") | change))  # type: ignore[arg-type]

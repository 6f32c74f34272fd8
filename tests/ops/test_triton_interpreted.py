"""The Triton twins in Triton's interpreter, against the references in float64. `test_triton.py` runs this file.

Tensors lie between walls of NaN: an access outside of them, or a result that was never written, shows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("run by test_triton.py in a process of its own", allow_module_level=True)

from dehaze_bench.ops.backends import choose_backend
from dehaze_bench.ops.selective_scan import gpu as scan_gpu
from dehaze_bench.ops.selective_scan import reference as scan_reference
from dehaze_bench.ops.selective_scan import selective_scan
from dehaze_bench.ops.wkv import bi_wkv
from dehaze_bench.ops.wkv import gpu as wkv_gpu
from dehaze_bench.ops.wkv import reference as wkv_reference

interpreter = pytest.importorskip("triton.runtime.interpreter")
language = pytest.importorskip("triton.language")

WALL = 64
NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")

# batch, tokens, routes, channels, groups, states, steps of an index or None; softplus, merged, which optional inputs
SCANS = {
    "raster": (2, 14, 1, 7, 1, 4, None, True, True, ("D", "z", "delta_bias", "initial")),
    "routes": (1, 9, 2, 5, 1, 3, 15, True, True, ("D", "z", "delta_bias", "initial")),
    "separate": (1, 9, 2, 8, 2, 2, 7, False, False, ("z",)),
    "raster routes": (1, 5, 2, 40, 1, 1, None, True, True, ("D",)),
}


@pytest.fixture(autouse=True)
def patched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the time goes into replacing the language's functions at each call of a helper; once a launch will do."""
    patch, untouched = interpreter._patch_lang, language.load
    done: set[int] = set()

    def patch_once(function: Any) -> Any:
        if language.load is untouched:  # a launch begins
            done.clear()
        module = id(function.__globals__)
        if module in done:
            return None
        done.add(module)
        return patch(function)

    monkeypatch.setattr(interpreter, "_patch_lang", patch_once)


class Walls:
    """Hands out tensors between NaNs, and looks at the NaNs afterwards."""

    def __init__(self) -> None:
        self.rooms: list[Tensor] = []

    def enclose(self, x: Tensor) -> Tensor:
        room = torch.full((x.numel() + 2 * WALL,), torch.nan, dtype=x.dtype)
        self.rooms.append(room)
        inner = room[WALL:-WALL].view(x.shape)
        inner.copy_(x)
        return inner

    def enclose_new(self, create: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def create_within(*arguments: Any, **options: Any) -> Tensor:
            x = create(*arguments, **options)
            if create is torch_empty:
                x.fill_(torch.nan)
            return self.enclose(x)

        return create_within

    def check(self) -> None:
        assert self.rooms
        for room in self.rooms:
            assert bool(room[:WALL].isnan().all()) and bool(room[-WALL:].isnan().all())


torch_empty, torch_zeros = torch.empty, torch.zeros


@pytest.fixture
def walls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Walls]:
    found = Walls()
    monkeypatch.setattr(torch, "empty", found.enclose_new(torch_empty))
    monkeypatch.setattr(torch, "zeros", found.enclose_new(torch_zeros))
    yield found
    found.check()


@pytest.fixture
def reproducible() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def draw(case: str) -> tuple[dict[str, Tensor | None], Tensor | None]:
    batch, tokens, routes, channels, groups, states, steps, softplus, _, optional = SCANS[case]
    generator = torch.Generator().manual_seed(len(case))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).float().double()

    delta = normal(batch, tokens, routes, channels)
    inputs: dict[str, Tensor | None] = {
        "u": normal(batch, tokens, channels),
        "delta": delta if softplus else 0.3 * delta.abs(),
        "A": -normal(routes, channels, states).abs(),
        "B": normal(batch, tokens, routes, groups, states),
        "C": normal(batch, tokens, routes, groups, states),
        "D": normal(routes, channels),
        "z": normal(batch, tokens, channels),
        "delta_bias": normal(routes, channels) - 1,
        "initial": normal(batch, routes, channels, states),
    }
    for name in ("D", "z", "delta_bias", "initial"):
        if name not in optional:
            inputs[name] = None
    if steps is None:
        return inputs, None
    index = torch.randint(-1, tokens, (routes, steps), generator=generator)
    index[0, :3] = torch.tensor([4, -1, 4])  # whatever was drawn: a token twice, and padding between
    return inputs, index


def expected_scan(case: str) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Outputs and gradients by autograd through the reference, and the gradients of the loss at its outputs."""
    inputs, index = draw(case)
    leaves = {name: x.requires_grad_() for name, x in inputs.items() if x is not None}
    given = [leaves.get(name) for name in NAMES]
    softplus, merged = SCANS[case][7:9]
    y, last = scan_reference.scan(*given, softplus, index, leaves.get("initial"), merged)
    dy = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).reshape(y.shape).float().double()
    dlast = torch.linspace(1, -1, last.numel(), dtype=torch.float64).reshape(last.shape).float().double()
    ((y * dy).sum() + (last * dlast).sum()).backward()
    found = {"y": y.detach(), "last": last.detach()}
    return found | {name: x.grad for name, x in leaves.items() if x.grad is not None}, dy, dlast


def check_scan(case: str, walls: Walls) -> None:
    expected, dy, dlast = expected_scan(case)
    inputs, index = draw(case)
    softplus, merged = SCANS[case][7:9]
    ready = {name: None if x is None else walls.enclose(x.float()) for name, x in inputs.items()}
    given = [ready[name] for name in NAMES]
    y, last, states = scan_gpu.scan(*given, softplus, index, ready["initial"], merged, True)
    batch, _, routes, channels, _, num_states, steps, *_ = SCANS[case]
    steps = inputs["u"].shape[1] if steps is None else steps
    assert states.shape == scan_gpu.states_shape(batch, routes, steps, channels, num_states)
    found = {"y": y, "last": last}
    gradients = [walls.enclose(x.float()) for x in (dy, dlast)]
    found |= scan_gpu.scan_backward(*gradients, states, *given, softplus, index, merged)
    for name, x in expected.items():
        assert found[name].dtype == torch.float32
        assert found[name].shape == x.shape, name
        assert relative(found[name], x) < 3e-6, name


@pytest.fixture
def one_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few warps fit: routes are not cut, and one program does the whole backward pass, item by item."""
    monkeypatch.setattr(scan_gpu, "CHUNK", 4)
    monkeypatch.setattr(scan_gpu, "WARPS_PER_PROCESSOR", 2)


@pytest.fixture
def many_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many warps fit that every route is cut into segments of a chunk."""
    monkeypatch.setattr(scan_gpu, "CHUNK", 4)
    monkeypatch.setattr(scan_gpu, "WARPS_PER_PROCESSOR", 128)


@pytest.mark.usefixtures("one_segment")
@pytest.mark.parametrize("case", SCANS)
def test_scan_in_one_segment(case: str, walls: Walls) -> None:
    check_scan(case, walls)


@pytest.mark.usefixtures("many_segments")
@pytest.mark.parametrize("case", ["raster", "routes"])
def test_scan_in_segments(case: str, walls: Walls) -> None:
    check_scan(case, walls)


@pytest.mark.usefixtures("one_segment", "reproducible")
@pytest.mark.parametrize("case", ["routes", "separate"])
def test_scan_under_deterministic_algorithms(case: str, walls: Walls) -> None:
    check_scan(case, walls)


@pytest.mark.usefixtures("one_segment")
def test_scan_reads_slices_and_half_precision() -> None:
    torch.manual_seed(0)
    wide = torch.randn(2, 5, 12).bfloat16()
    projected = torch.randn(2, 5, 10)
    u, z = wide.chunk(2, dim=-1)
    delta, B, C = projected.split([6, 2, 2], dim=-1)
    tail = (B[:, :, None, None], C[:, :, None, None], None)
    A = -torch.ones(1, 6, 2)
    y, last, states = scan_gpu.scan(u, delta[:, :, None], A, *tail, z, None, True, None, None, True, False)
    copies = [x.float().contiguous() for x in (u, delta[:, :, None], A, *tail[:2])]
    expected = scan_gpu.scan(*copies, None, z.float().contiguous(), None, True, None, None, True, False)
    assert torch.equal(y, expected[0])
    assert torch.equal(last, expected[1])
    assert states.shape == (0,)


# tokens, channels, spread of decay and bonus, shuffled, steps of a segment at least
WKVS = {
    "one token": (1, 5, 3.0, False, 64),
    "one segment": (10, 5, 10.0, True, 64),
    "segments": (11, 35, 0.5, True, 4),
    "steep": (9, 5, 500.0, False, 5),
}


@pytest.mark.parametrize("case", WKVS)
def test_bi_wkv(case: str, walls: Walls, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, channels, spread, shuffled, segment = WKVS[case]
    monkeypatch.setattr(wkv_gpu, "SEGMENT", segment)
    generator = torch.Generator().manual_seed(tokens)
    batch = 2 if case == "one segment" else 1
    shapes = ((channels,), (channels,), (batch, tokens, channels), (batch, tokens, channels))
    scales = (spread, spread, 2.0, 1.0)
    inputs = [scale * torch.randn(shape, generator=generator) for scale, shape in zip(scales, shapes, strict=True)]
    order = torch.randperm(tokens, generator=generator) if shuffled else None
    leaves = [x.double().requires_grad_() for x in inputs]
    y = wkv_reference.bi_wkv(*leaves, order)
    dy = torch.linspace(-1, 2, y.numel()).reshape(y.shape)
    (y * dy.double()).sum().backward()

    w, u = (walls.enclose(x.double() / tokens) for x in inputs[:2])
    k, v, dy = (walls.enclose(x) for x in (*inputs[2:], dy))
    assert relative(wkv_gpu.scan(w, u, k, v, order), y.detach()) < 5e-7
    dw, du, dk, dv = wkv_gpu.scan_backward(dy, w, u, k, v, order)
    assert dw.dtype == du.dtype == torch.float64
    # Where one weight outdoes all others, the gradients of w, u and k are small differences of large numbers.
    largest = float(dy.abs().sum((0, 1)).max() * v.abs().max())
    for found, leaf in zip((dw / tokens, du / tokens, dk, dv), leaves, strict=True):
        assert leaf.grad is not None
        assert float((found - leaf.grad).norm()) < 1e-6 * float(leaf.grad.norm()) + 1e-7 * largest


def test_bi_wkv_meets_the_golden_values(golden: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.setattr(wkv_gpu, "SEGMENT", 16)
    stored = {name: torch.from_numpy(x) for name, x in np.load(golden / "ops_bi_wkv" / "out.npz").items()}
    k, v = stored["k"].float(), stored["v"].float()
    w, u = (stored[name] / k.shape[1] for name in ("spatial_decay", "spatial_first"))
    assert relative(wkv_gpu.scan(w, u, k, v, None), stored["out"]) < 1e-6


def test_bi_wkv_does_not_hide_nan() -> None:
    torch.manual_seed(0)
    for spoilt in range(4):
        inputs = [torch.randn(3).double(), torch.randn(3).double(), torch.randn(1, 5, 3), torch.randn(1, 5, 3)]
        inputs[spoilt].view(-1)[0] = float("nan")
        assert bool(wkv_gpu.scan(*inputs, None).isnan().any())


def test_interpreted_kernels_take_cpu_tensors() -> None:
    assert choose_backend("triton", torch.ones(1)) == "triton"
    assert choose_backend("auto", torch.ones(1)) != "triton"


def outcome(function: Callable[..., Any], *inputs: Tensor, **options: Any) -> list[Tensor]:
    """The output and the gradients of its sum of squares."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = function(*leaves, **options)
    y.square().sum().backward()
    return [y.detach(), *(x.grad for x in leaves if x.grad is not None)]


def test_operators_reach_the_twins() -> None:
    torch.manual_seed(0)
    order = torch.tensor([3, 0, 2, 1])
    u, delta = torch.randn(2, 1, 4, 3)
    decay, k = torch.randn(3), torch.randn(1, 4, 3)
    calls: list[tuple[Callable[..., Any], tuple[Tensor, ...]]] = [
        (selective_scan, (u, delta, -torch.rand(3, 2), torch.randn(1, 4, 2), torch.randn(1, 4, 2))),
        (bi_wkv, (decay, decay, k, u)),
    ]
    for function, inputs in calls:
        expected = outcome(function, *inputs, order_L=order, backend="reference")
        found = outcome(function, *inputs, order_L=order, backend="triton")
        assert len(found) == len(inputs) + 1
        for a, b in zip(found, expected, strict=True):
            assert relative(a, b) < 3e-6

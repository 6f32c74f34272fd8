"""Bi-WKV: golden values, the linear-time forms against the formula, gradients, tracing and counting, errors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dehaze_bench.errors import UsageError
from dehaze_bench.ops.wkv import available_backends, bi_wkv, cpu, published, reference
from dehaze_bench.ops.wkv.op import bi_wkv_op

BACKENDS = [
    name if reason == "ok" else pytest.param(name, marks=pytest.mark.skip(reason=reason))
    for name, reason in available_backends().items()
]
NAMES = ("decay", "first", "k", "v")


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def draw(spread: float = 10.0, tokens: int = 45, channels: int = 53) -> list[Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    shapes = ((channels,), (channels,), (2, tokens, channels), (2, tokens, channels))
    scales = (spread, spread, 2.0, 1.0)
    return [scale * torch.randn(shape, generator=generator) for scale, shape in zip(scales, shapes, strict=True)]


def gradients(function: object, inputs: list[Tensor], *rest: object, **options: object) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = function(*leaves, *rest, **options)  # type: ignore[operator]
    weight = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).reshape(y.shape)
    (y * weight.to(y.dtype)).sum().backward()
    return [y.detach(), *[x.grad for x in leaves]]  # type: ignore[list-item]


@pytest.mark.parametrize("backend", BACKENDS)
def test_golden_values(golden: Path, backend: str) -> None:
    stored = np.load(golden / "ops_bi_wkv" / "out.npz")
    inputs = [torch.from_numpy(stored[name]) for name in ("spatial_decay", "spatial_first", "k", "v")]
    expected = torch.from_numpy(stored["out"])
    assert relative(reference.bi_wkv(*inputs), expected) < 1e-12
    assert relative(bi_wkv(*[x.float() for x in inputs], backend=backend), expected) < 1e-6


@pytest.mark.parametrize("spread", [0.1, 10.0, 500.0])
@pytest.mark.parametrize("shuffled", [False, True])
def test_linear_reference_agrees_with_the_formula(spread: float, shuffled: bool) -> None:
    inputs = [x.double() for x in draw(spread)]
    order = torch.randperm(45, generator=torch.Generator().manual_seed(0)) if shuffled else None
    expected = gradients(reference.bi_wkv, inputs, order)
    found = gradients(bi_wkv, inputs, order, "reference")
    for name, a, b in zip(("y", *NAMES), found, expected, strict=True):
        assert relative(a, b) < 1e-10, name


@pytest.mark.skipif(available_backends()["numba"] != "ok", reason=available_backends()["numba"])
@pytest.mark.parametrize(
    ("spread", "tokens", "channels"), [(0.1, 45, 53), (10.0, 70, 7), (500.0, 45, 100), (3.0, 1, 5)]
)
@pytest.mark.parametrize("shuffled", [False, True])
def test_numba_agrees_with_the_formula(spread: float, tokens: int, channels: int, shuffled: bool) -> None:
    inputs = draw(spread, tokens, channels)
    order = torch.randperm(tokens, generator=torch.Generator().manual_seed(0)) if shuffled else None
    expected = gradients(reference.bi_wkv, [x.double() for x in inputs], order)
    found = gradients(bi_wkv, inputs, order, "numba")
    for name, a, b in zip(("y", *NAMES), found, expected, strict=True):
        if bool(b.abs().max() > 1e-9):  # a single token has no gradient but that of v
            assert relative(a, b) < 2e-7, name
        else:
            assert float(a.abs().max()) < 1e-6, name


@pytest.mark.skipif(available_backends()["numba"] != "ok", reason=available_backends()["numba"])
@pytest.mark.parametrize("decay", [-3e5, -5.0, 5.0, 3e5])
def test_long_sequences_stay_finite(decay: float) -> None:
    _, first, k, v = draw(tokens=20_000, channels=3)
    leaves = [torch.full((3,), decay), first, 30 * k, v]
    for found in gradients(bi_wkv, leaves, None, "numba"):
        assert bool(found.isfinite().all())
    y = bi_wkv(*leaves, backend="numba")
    assert float(y.abs().max()) <= float(v.abs().max())  # an average


@pytest.mark.skipif(available_backends()["numba"] != "ok", reason=available_backends()["numba"])
@pytest.mark.parametrize("change", [(0, 495.0), (1, 45 * 495.0), (2, 248.0)])
def test_numba_is_right_on_both_sides_of_the_bound(change: tuple[int, float]) -> None:
    """Just within it sums are kept as they are, just beyond it with a logarithm."""
    position, size = change
    seen = []
    for factor in (0.98, 1.02):
        inputs = [0.01 * x for x in draw()]
        inputs[position].view(-1)[::5] = factor * size
        inputs[position].view(-1)[::7] = -factor * size
        w, u = inputs[0].double() / 45, inputs[1].double() / 45
        seen.append(cpu.find_top(w.numpy(), u.numpy(), inputs[2].numpy()) is not None)
        expected = gradients(reference.bi_wkv, [x.double() for x in inputs], None)
        found = gradients(bi_wkv, inputs, None, "numba")
        for name, a, b in zip(("y", *NAMES), found, expected, strict=True):
            assert relative(a, b) < 2e-7, name
    assert seen == [True, False]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_is_not_hidden(backend: str) -> None:
    inputs = draw()
    for position in range(4):
        spoilt = [x.clone() for x in inputs]
        spoilt[position].view(-1)[0] = float("nan")
        assert bi_wkv(*spoilt, backend=backend).isnan().any(), NAMES[position]


def loop_like_the_kernel(decay: Tensor, first: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Pair by pair in plain Python for one channel, with the scale of epsilon carried from token to token."""
    length = len(k)
    w, u, size = float(decay) / length, float(first) / length, math.ceil(length / 32)
    y = []
    for t in range(length):
        start = t // size * size
        behind = max((k[i] - w * (start - i) for i in range(start)), default=-math.inf)
        ahead = max(k[i] - w * (i - start) for i in range(start, length))
        for step in range(start, t):
            behind, ahead = max(behind - w, k[step]), max(ahead + w, k[step + 1] + w)
        scale = max(behind, ahead, u + k[t])
        numerator, denominator = 0.0, 1e-6 * math.exp(scale)
        for i in range(length):
            if i == t:
                weight = math.exp(u + k[i])
            elif i > t:
                weight = math.exp(k[i] - w * (i - t))
            elif i >= start:
                weight = math.exp(k[i] - w * (t - i - 1))
            else:
                weight = math.exp(k[i] - w * (t - i))
            if start < i <= t:
                weight += math.exp(k[i] + w * (t - i)) * (1 - math.exp(w))
            numerator, denominator = numerator + weight * v[i], denominator + weight
        y.append(numerator / denominator)
    return torch.tensor(y, dtype=torch.float64)


@pytest.mark.parametrize("tokens", [1, 31, 37, 70, 97])
def test_published_form_agrees_with_a_loop(tokens: int) -> None:
    decay, first, k, v = (x.double() for x in draw(5.0, tokens, 3))
    found = published.bi_wkv(decay, first, k, v)
    for b in range(2):
        for c in range(3):
            expected = loop_like_the_kernel(decay[c], first[c], k[b, :, c].tolist(), v[b, :, c].tolist())
            torch.testing.assert_close(found[b, :, c], expected, rtol=1e-12, atol=1e-13)


def test_published_golden_values(golden: Path) -> None:
    stored = np.load(golden / "ops_bi_wkv" / "out.npz")
    inputs = [torch.from_numpy(stored[name]) for name in ("spatial_decay", "spatial_first", "k", "v")]
    expected = torch.from_numpy(stored["out_kernel_form"])  # leaves out the epsilon
    assert relative(published.bi_wkv(*inputs, epsilon=0.0), expected) < 1e-12
    assert 1e-8 < relative(bi_wkv(*inputs, form="published"), expected) < 1e-6
    assert 1e-3 < relative(bi_wkv(*inputs), expected) < 1e-2


@pytest.mark.parametrize("tokens", [1, 31, 37, 70])
@pytest.mark.parametrize("shuffled", [False, True])
def test_published_linear_form_agrees_with_its_formula(tokens: int, shuffled: bool) -> None:
    inputs = [x.double() for x in draw(5.0, tokens, 4)]
    order = torch.randperm(tokens, generator=torch.Generator().manual_seed(0)) if shuffled else None
    expected = gradients(published.bi_wkv, inputs, order)
    found = gradients(bi_wkv, inputs, order, form="published")
    for name, a, b in zip(("y", *NAMES), found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13, msg=name)
    y = bi_wkv(*[x.float() for x in inputs], order, form="published")
    assert y.dtype == torch.float32 and relative(y, expected[0]) < 1e-6


def test_published_form_refuses_what_it_cannot_hold() -> None:
    decay, first, k, v = draw(tokens=40)
    with pytest.raises(UsageError, match="at most 500, not 7"):
        bi_wkv(torch.full_like(decay, -700.0), first, k, v, form="published")
    assert bi_wkv(decay, first, torch.full_like(k, float("nan")), v, form="published").isnan().all()
    with pytest.raises(UsageError, match="no 'numba' twin"):
        bi_wkv(decay, first, k, v, backend="numba", form="published")
    with pytest.raises(UsageError, match="Did you mean 'published'"):
        bi_wkv(decay, first, k, v, form="publish")


def test_gradcheck() -> None:
    inputs = [x.double().requires_grad_() for x in draw(3.0, 6, 2)]
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.autograd.gradcheck(lambda *xs: bi_wkv(*xs, order_L=order), inputs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_opcheck(backend: str) -> None:
    inputs = [x.requires_grad_() for x in draw()]
    for order in (None, torch.randperm(45)):
        torch.library.opcheck(bi_wkv_op, (*inputs, order, backend, "paper"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_operations_are_counted_whatever_runs(backend: str) -> None:
    with FlopCounterMode(display=False) as counter:
        gradients(bi_wkv, draw(), None, backend)
    assert counter.get_total_flops() == 3 * 29 * 2 * 45 * 53
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        c, x = torch.empty(96), torch.empty(1, 2**24, 96)
        assert bi_wkv(c, c, x, x).shape == x.shape
    assert counter.get_total_flops() == 29 * 2**24 * 96


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_runs_in_float32(backend: str) -> None:
    decay, first, k, v = draw()
    with torch.autocast("cpu", torch.bfloat16):
        y = bi_wkv(decay, first, k.bfloat16(), v.bfloat16(), backend=backend)
    assert torch.equal(y, bi_wkv(decay, first, k.bfloat16().float(), v.bfloat16().float(), backend=backend))


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, torch.ones(4), r"spatial_decay must be \(53,\)"),
        (2, torch.ones(45, 53), "k must be"),
        (3, torch.ones(2, 44, 53), r"v must be \(2, 45, 53\)"),
        (4, torch.zeros(45, dtype=torch.int64), "each of the 45 tokens once"),
        (4, torch.arange(45).float(), "int64"),
        (5, "fast", "no backend 'fast'"),
    ],
)
def test_errors_name_the_thing_and_the_remedy(position: int, value: Tensor | str, message: str) -> None:
    arguments: list[object] = [*draw(), None, "auto"]
    arguments[position] = value
    with pytest.raises(UsageError, match=message):
        bi_wkv(*arguments)  # type: ignore[arg-type]

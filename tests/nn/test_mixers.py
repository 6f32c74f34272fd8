"""Mixers and the scanned layer against slow, literal versions of themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.depthwise import convolve
from dehaze_bench.nn.mixers import BiWKV, GatedConv, Mamba, Mixer, WindowAttention
from dehaze_bench.nn.scanned import ScannedLayer
from dehaze_bench.scans import Scan, planar

MIXERS: dict[str, Callable[[int], Mixer]] = {
    "conv": GatedConv,
    "attention": partial(WindowAttention, window=8, head_dim=4),
    "shifted": partial(WindowAttention, window=8, head_dim=4, shift=3),
    "mamba": partial(Mamba, d_state=4),
    "indexed": partial(Mamba, d_state=4, d_conv=0),
    "wkv": BiWKV,
}
SCANS = {
    "raster": Scan("raster", planar.raster, "mean"),
    "bidirectional": Scan("bidirectional", planar.bidirectional, "mean"),
    "cross": Scan("cross", planar.cross, "sum"),
    "random": Scan("random", partial(planar.random, seed=3), "mean"),
    "padded": Scan("padded", lambda grid: np.append(planar.bidirectional(grid), [[-1], [-1]], axis=1), "sum"),
}


def stirred(module: nn.Module) -> nn.Module:
    """Move every parameter a little, so that nothing is hidden behind an initial zero."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


@pytest.mark.parametrize("length", [1, 2, 7, 17, 33])
@pytest.mark.parametrize("name", MIXERS)
def test_any_length_forward_and_backward(name: str, length: int) -> None:
    torch.manual_seed(0)
    mixer = MIXERS[name](10)
    x_BLC = torch.randn(2, length, 10, requires_grad=True)
    y_BLC = mixer(x_BLC)
    assert y_BLC.shape == x_BLC.shape
    y_BLC.square().sum().backward()
    assert torch.isfinite(y_BLC).all()
    assert x_BLC.grad is not None
    assert torch.isfinite(x_BLC.grad).all()
    for key, parameter in mixer.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("grid", [(1, 5), (5, 1), (3, 5)])
@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("name", MIXERS)
def test_scanned_layer_is_gather_mix_scatter_merge(name: str, scan: str, grid: tuple[int, int]) -> None:
    torch.manual_seed(1)
    layer = ScannedLayer(8, MIXERS[name], SCANS[scan])
    stirred(layer)
    x_BHWC = torch.randn(2, *grid, 8, requires_grad=True)
    s_BLD, gate_BLD = layer.mixer.enter(x_BHWC.flatten(1, 2))
    merged = torch.zeros(2, grid[0] * grid[1], layer.mixer.width)
    (routes,) = SCANS[scan].on(grid)
    index_KL = routes.index_KL.tolist()
    for route in index_KL:
        zero = torch.zeros_like(s_BLD[:, 0])
        visited = torch.stack([s_BLD[:, token] if token >= 0 else zero for token in route], dim=1)
        mixed = layer.mixer.mix(visited)
        for step, token in enumerate(route):
            if token >= 0:
                merged[:, token] += mixed[:, step]
    if SCANS[scan].merge == "mean":
        merged = merged / len(index_KL)
    expected = layer.mixer.leave(layer.norm(merged), gate_BLD).view(2, *grid, 8)
    out = layer(x_BHWC)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    out.sum().backward()
    assert x_BHWC.grad is not None
    assert torch.isfinite(x_BHWC.grad).all()


def test_indexed_mamba_reads_through_the_order() -> None:
    torch.manual_seed(2)
    mixer = Mamba(6, d_state=3, d_conv=0)
    s_BLD = torch.randn(2, 11, mixer.width)
    order_L = torch.randperm(11)
    gathered = torch.empty_like(s_BLD)
    gathered[:, order_L] = mixer.mix(s_BLD[:, order_L])
    torch.testing.assert_close(mixer.mix(s_BLD, order_L), gathered, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (4, 3), (7, 3)])
@pytest.mark.parametrize("length", [1, 5, 16])
def test_convolve_is_conv1d(kernel: int, padding: int, length: int) -> None:
    conv = nn.Conv1d(6, 6, kernel, padding=padding, groups=6)
    x_BLD = torch.randn(2, length, 6)
    expected = conv(x_BLD.transpose(1, 2))[..., :length].transpose(1, 2)
    torch.testing.assert_close(convolve(conv, x_BLD), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("length", [3, 8, 13, 24])
def test_windows_equal_one_masked_softmax(length: int, shift: int) -> None:
    """Every token attends to the real tokens of its window, with the bias of their distance."""
    torch.manual_seed(3)
    mixer = WindowAttention(8, window=8, head_dim=4, shift=shift)
    stirred(mixer)
    s_BLD, _ = mixer.enter(torch.randn(2, length, 8))
    q, k, v = s_BLD.view(2, length, 3, 2, 4).permute(2, 0, 3, 1, 4)
    start = shift if length > 8 else 0
    step = torch.arange(length)
    window = (step + start) // 8
    distance = step[:, None] - step[None, :]
    bias = mixer.bias[:, (distance + 7).clamp(0, 14)]
    scores = (q @ k.transpose(-1, -2)) / 2 + bias
    scores = scores.masked_fill(window[:, None] != window[None, :], float("-inf"))
    expected = (scores.softmax(-1) @ v).transpose(1, 2).reshape(2, length, 8)
    torch.testing.assert_close(mixer.mix(s_BLD), expected, rtol=1e-4, atol=1e-5)


def test_windows_do_not_look_past_their_border() -> None:
    mixer = WindowAttention(8, window=4, head_dim=4)
    x_BLC = torch.randn(1, 8, 8)
    changed = x_BLC.clone()
    changed[:, 4:] += 1
    torch.testing.assert_close(mixer(changed)[:, :4], mixer(x_BLC)[:, :4])
    assert not torch.allclose(mixer(changed)[:, 4:], mixer(x_BLC)[:, 4:])


def test_mamba_looks_back_only_and_the_others_both_ways() -> None:
    for name, maker in MIXERS.items():
        torch.manual_seed(4)
        mixer = maker(8)
        x_BLC = torch.randn(1, 8, 8)
        changed = x_BLC.clone()
        changed[:, 5] += 1
        differs = (mixer(changed) - mixer(x_BLC)).abs().amax(-1)[0] > 1e-7
        assert differs[5], name
        assert bool(differs[:5].any()) == (name not in ("mamba", "indexed")), name


def test_conv_mixer_is_its_formula() -> None:
    mixer = GatedConv(5, kernel=3)
    x_BLC = torch.randn(2, 9, 5)
    content, gate = F.linear(x_BLC, mixer.in_proj.weight, mixer.in_proj.bias).chunk(2, dim=-1)
    mixed: Tensor = F.silu(mixer.conv(content.transpose(1, 2)).transpose(1, 2))
    torch.testing.assert_close(mixer(x_BLC), mixer.out_proj(mixed * F.silu(gate)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GatedConv(8, kernel=4), "odd kernel.*4"),
        (lambda: WindowAttention(8, window=8, shift=8), r"\[0, window=8\)"),
        (lambda: WindowAttention(8, window=8, shift=-1), "shift"),
    ],
)
def test_bad_arguments(make: Callable[[], Mixer], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()

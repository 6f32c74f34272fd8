"""Pictures read between pixels, and convolutions with moving taps, against loops over pixels."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.nn.sampling import DeformableDepthwise, sample_pixels


def read(plane_HW: Tensor, y: float, x: float, padding: str) -> float:
    """The definition: four pixels, weighed by what the place is away from them; beyond the border zero or the edge."""
    height, width = plane_HW.shape
    if padding == "border":
        y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * plane_HW[row, column].item()
    return total


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("size", [(4, 6), (1, 5)])
def test_places_are_read_as_defined(size: tuple[int, int], padding: str) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 2, *size, dtype=torch.float64)
    shift = 3 * torch.randn(2, 2, 3, *size, dtype=torch.float64)
    found = sample_pixels(x, shift, padding)
    assert found.shape == (2, 2, 3, *size)
    for b, c, t, i, j in torch.cartesian_prod(*(torch.arange(n) for n in found.shape)).tolist():
        y, column = i + shift[b, 0, t, i, j].item(), j + shift[b, 1, t, i, j].item()
        assert found[b, c, t, i, j].item() == pytest.approx(read(x[b, c], y, column, padding), abs=1e-9)


def test_without_values_the_shape_is_the_same() -> None:
    x, shift = torch.rand(2, 3, 4, 5, device="meta"), torch.rand(2, 2, 9, 4, 5, device="meta")
    assert sample_pixels(x, shift).shape == (2, 3, 9, 4, 5)


def test_half_precision_still_tells_pixels_apart() -> None:
    x = torch.arange(3000.0).expand(1, 1, 2, 3000).bfloat16()
    torch.testing.assert_close(sample_pixels(x, torch.zeros(1, 2, 1, 2, 3000).bfloat16())[:, :, 0], x)


def test_taps_that_do_not_move_are_a_convolution() -> None:
    torch.manual_seed(0)
    layer = DeformableDepthwise(3).double()
    x = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    found = layer(x, torch.zeros(2, 18, 5, 7, dtype=torch.float64))
    torch.testing.assert_close(found, F.conv2d(x, layer.weight, padding=1, groups=3))


def test_moving_taps_are_read_as_defined() -> None:
    torch.manual_seed(0)
    layer = DeformableDepthwise(2).double()
    x = torch.rand(1, 2, 4, 5, dtype=torch.float64)
    offset = 2 * torch.randn(1, 18, 4, 5, dtype=torch.float64)
    found = layer(x, offset)
    for c, i, j in torch.cartesian_prod(*(torch.arange(n) for n in found.shape[1:])).tolist():
        expected = 0.0
        for tap in range(9):
            y = i + tap // 3 - 1 + offset[0, 2 * tap, i, j].item()
            column = j + tap % 3 - 1 + offset[0, 2 * tap + 1, i, j].item()
            expected += layer.weight[c, 0, tap // 3, tap % 3].item() * read(x[0, c], y, column, "zeros")
        assert found[0, c, i, j].item() == pytest.approx(expected, abs=1e-9)


def test_weights_offsets_and_picture_learn() -> None:
    layer = DeformableDepthwise(2)
    x, offset = torch.rand(1, 2, 4, 4, requires_grad=True), (0.3 * torch.randn(1, 18, 4, 4)).requires_grad_()
    layer(x, offset).square().sum().backward()
    for tensor in (x, offset, layer.weight):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.abs().sum() > 0

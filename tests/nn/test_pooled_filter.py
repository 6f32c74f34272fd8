"""Filters made of the image: shifted views against an unfolded map, mirrored borders, what they are at first."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.pooled_filter import ModulatedFilter, PooledFilter, apply_taps, mirror


def unfolded(x_BCHW: Tensor, taps_BGT: Tensor, kernel: tuple[int, int], dilation: int) -> Tensor:
    """The slow twin: every neighbourhood in a row, times its weights."""
    batch, dim, height, width = x_BCHW.shape
    rows, columns = (dilation * (length // 2) for length in kernel)
    padded = F.pad(x_BCHW, (columns, columns, rows, rows), mode="reflect")
    parts = F.unfold(padded, kernel, dilation).view(batch, taps_BGT.shape[1], -1, taps_BGT.shape[2], height * width)
    return (parts * taps_BGT[:, :, None, :, None]).sum(3).view(batch, dim, height, width)


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 3), (3, 1), (5, 3)])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_shifted_views_are_the_unfolded_map(kernel: tuple[int, int], dilation: int, groups: int) -> None:
    torch.manual_seed(0)
    x_BCHW = torch.randn(2, 6, 7, 9, dtype=torch.float64, requires_grad=True)
    taps_BGT = torch.randn(2, groups, kernel[0] * kernel[1], dtype=torch.float64, requires_grad=True)
    fast, slow = apply_taps(x_BCHW, taps_BGT, kernel, dilation), unfolded(x_BCHW, taps_BGT, kernel, dilation)
    torch.testing.assert_close(fast, slow)
    weight = torch.randn_like(fast)
    gradients = [torch.autograd.grad((out * weight).sum(), (x_BCHW, taps_BGT)) for out in (fast, slow)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(("size", "margin"), [(5, 2), (5, 4), (5, 11), (2, 7), (1, 3)])
def test_a_border_is_mirrored_without_its_edge_as_often_as_it_takes(size: int, margin: int) -> None:
    x_BCHW = torch.arange(float(size)).view(1, 1, size, 1)
    column = [x_BCHW.flatten().tolist()[_fold(place, size)] for place in range(-margin, size + margin)]
    assert mirror(x_BCHW, 2, margin).flatten().tolist() == column
    assert mirror(x_BCHW.transpose(2, 3), 3, margin).flatten().tolist() == column


def _fold(place: int, size: int) -> int:
    if size == 1:
        return 0
    while not 0 <= place < size:
        place = -place if place < 0 else 2 * (size - 1) - place
    return place


def test_a_softmax_keeps_what_is_constant() -> None:
    constant = torch.rand(2, 16, 1, 1).expand(2, 16, 6, 5).contiguous()
    torch.testing.assert_close(PooledFilter(16)(constant), constant)


def test_each_image_of_a_batch_has_a_filter_of_its_own() -> None:
    torch.manual_seed(0)
    layer, x_BCHW = PooledFilter(16, activation="tanh").eval(), torch.randn(3, 16, 6, 5)
    alone = torch.cat([layer(image[None]) for image in x_BCHW])
    torch.testing.assert_close(layer(x_BCHW), alone)


@pytest.mark.parametrize("kernel", [(3, 3), (1, 3), (3, 1)])
def test_a_modulated_filter_starts_as_the_identity(kernel: tuple[int, int]) -> None:
    x_BCHW = torch.randn(2, 8, 6, 5)
    torch.testing.assert_close(ModulatedFilter(8, kernel)(x_BCHW), x_BCHW)


@pytest.mark.parametrize(("kernel", "axes"), [((3, 3), (2, 3)), ((1, 3), (3,)), ((3, 1), (2,))])
def test_the_mean_of_a_modulated_filter_is_along_its_kernel(kernel: tuple[int, int], axes: tuple[int, ...]) -> None:
    layer, x_BCHW = ModulatedFilter(8, kernel, norm=False), torch.randn(2, 8, 6, 5)
    with torch.no_grad():
        layer.conv.weight.zero_()  # the filter itself is zero, so that of it the mean alone is left
        layer.inside_all.fill_(-1.0)
        layer.lamb_l.fill_(1.0)
        layer.lamb_h.fill_(-1.0)
    torch.testing.assert_close(layer(x_BCHW), x_BCHW.mean(axes, keepdim=True).expand_as(x_BCHW))


def test_faults_are_named() -> None:
    with pytest.raises(UsageError, match="8 groups"):
        PooledFilter(12)
    with pytest.raises(UsageError, match="Did you mean 'softmax'"):
        PooledFilter(16, activation="softmx")
    with pytest.raises(UsageError, match="at least two images"):
        PooledFilter(16).train()(torch.rand(1, 16, 4, 4))

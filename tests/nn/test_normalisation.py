"""The range in which a network works."""

from __future__ import annotations

import torch

from dehaze_bench.nn.normalisation import SYMMETRIC, Normalisation
from dehaze_bench.nn.norms import BiasFreeNorm2d


def test_the_range_is_entered_and_left() -> None:
    x_BCHW = torch.rand(2, 3, 4, 5)
    normalised = SYMMETRIC.apply(x_BCHW)
    assert torch.allclose(normalised, 2 * x_BCHW - 1)
    assert torch.allclose(SYMMETRIC.undo(normalised), x_BCHW)
    kept = Normalisation((0.64, 0.6, 0.58), (0.14, 0.15, 0.152), undone=False)
    assert torch.allclose(kept.apply(x_BCHW)[:, 2], (x_BCHW[:, 2] - 0.58) / 0.152)
    assert torch.equal(kept.undo(x_BCHW), x_BCHW)


def test_the_norm_without_bias_keeps_the_mean() -> None:
    norm = BiasFreeNorm2d(6)
    torch.nn.init.uniform_(norm.weight)
    x_BCHW = torch.randn(2, 6, 3, 4) + 2
    scale = (((x_BCHW - x_BCHW.mean(1, keepdim=True)) ** 2).mean(1, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(norm(x_BCHW), x_BCHW / scale * norm.weight.view(1, 6, 1, 1), atol=1e-5)

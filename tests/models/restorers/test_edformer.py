"""ED-Former: the printed cost, its wavelets against the transform, gradients, published tensors, faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.edformer import AttentiveFFN, EDFormer, HaarUp, low_band
from dehaze_bench.weights.maps.edformer import map_edformer
from tests.models.restorers.building import dense_gmacs


def small(**arguments: Any) -> EDFormer:
    torch.manual_seed(0)
    given = {"depths": (1, 2, 1, 1, 1), "dims": (8, 8, 16), "heads": (2, 2, 4, 1, 1), "window": 4, **arguments}
    return EDFormer(**given)


def haar(x: Tensor) -> tuple[Tensor, ...]:
    """The orthonormal transform of every 2x2 square [[a, b], [c, d]]: low, and three bands of detail."""
    a, b, c, d = (x[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    return (a + b + c + d) / 2, (a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2


def inverse_haar(low: Tensor, *details: Tensor) -> Tensor:
    rows, columns, both = details
    squares = (low + rows + columns + both, low + rows - columns - both)
    squares += (low - rows + columns - both, low - rows - columns + both)
    return torch.nn.functional.pixel_shuffle(torch.stack(squares, 2).flatten(1, 2) / 2, 2)


def test_macs_are_nearly_the_printed_ones() -> None:
    # 7.36 G is printed. The published code also multiplies by the filters of its wavelets, and its counter counts more
    # than convolutions and products.
    assert dense_gmacs("edformer") == pytest.approx(7.36, rel=0.01)


def test_the_low_band_is_that_of_the_transform() -> None:
    x = torch.randn(2, 3, 8, 12)
    torch.testing.assert_close(low_band(x), haar(x)[0])
    torch.testing.assert_close(inverse_haar(*haar(x)), x)


def test_the_way_up_is_the_inverse_transform_with_the_details_of_the_skip() -> None:
    torch.manual_seed(0)
    up, x, skip = HaarUp(6, 3), torch.randn(2, 6, 4, 5), torch.randn(2, 3, 8, 10)
    torch.testing.assert_close(up(x, skip), inverse_haar(up.proj(x), *haar(skip)[1:]))


def test_the_gate_is_made_of_the_map_that_it_does_not_scale() -> None:
    torch.manual_seed(0)
    layer, x = AttentiveFFN(8, 16), torch.randn(2, 8, 6, 6)
    hidden = layer.proj_in(x).relu()
    gate = torch.sigmoid(layer.gate(hidden.mean((2, 3), keepdim=True)))
    torch.testing.assert_close(layer(x), layer.proj_out((hidden + layer.dconv(hidden) * gate).relu()))


def test_every_parameter_learns_but_what_moves_all_scores_alike() -> None:
    network, image = small(), torch.rand(2, 3, 26, 33)
    restored = network(image)
    assert restored.shape == image.shape
    (restored * torch.randn_like(restored)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        closed = "ffn.gate" in name  # a single squeezed channel may be closed by its ReLU
        alike = name.endswith("attn.meta.2.bias")  # softmax does not see it
        assert closed or (parameter.grad.abs().max() > 1e-6) != alike, name


def test_what_a_published_file_computes_is_left_out() -> None:
    names = ("fhsd1.dwt.h0_col", "fhsu2.idwt.g1_row", "layer2.blocks.2.attn.attn.relative_positions")
    assert map_edformer({name: torch.zeros(1) for name in names}) == {}


def test_bad_arguments() -> None:
    with pytest.raises(UsageError, match="at least 16 hidden channels, not 8"):
        small(mlp_ratios=(1, 2, 2, 2, 2))
    with pytest.raises(UsageError, match=r"heads=\[1\]"):
        small(heads=(1,))

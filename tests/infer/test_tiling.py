"""Tiling: cover, weights that add up to one, equality with the untiled result, bounded memory, errors."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dehaze_bench.errors import UsageError
from dehaze_bench.infer.pad import restore
from dehaze_bench.infer.tiling import blend_weights, place_tiles, restore_tiled
from tests.infer.infer_networks import Same, Strided


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, int, int]:
    multiple = draw(st.sampled_from([1, 4, 8]))
    tile = multiple * draw(st.integers(1, 12))
    overlap = draw(st.integers(0, tile - multiple))
    size = multiple * draw(st.integers(1, 40))
    return size, tile, overlap, multiple


@given(layouts())
def test_tiles_cover_the_axis_and_overlap_enough(layout: tuple[int, int, int, int]) -> None:
    size, tile, overlap, multiple = layout
    spans = place_tiles(size, tile, overlap, multiple)
    assert spans[0][0] == 0
    assert spans[-1][1] == size
    for (start, stop), (following, _) in pairwise(spans):
        assert stop - start == tile
        assert start % multiple == 0
        assert start < following <= stop - overlap


@given(layouts())
def test_weights_add_up_to_one(layout: tuple[int, int, int, int]) -> None:
    spans = place_tiles(*layout)
    total = torch.zeros(layout[0], dtype=torch.float64)
    for (start, stop), weight in zip(spans, blend_weights(spans), strict=True):
        assert weight.min() >= 0
        total[start:stop] += weight.double()
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=2e-7)


def test_weights_are_smooth_and_fade_at_inner_borders_only() -> None:
    first, second = blend_weights([(0, 64), (32, 96)])
    assert torch.equal(first[:32], torch.ones(32))
    assert (first[1:] - first[:-1]).abs().max() < 0.06
    assert first[-1] < 0.01
    torch.testing.assert_close(first, second.flip(0))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([(8, 0, 1), (8, 7, 1), (16, 4, 4), (32, 24, 8), (24, 5, 3)]),
)
def test_the_identity_gives_back_any_size(height: int, width: int, layout: tuple[int, int, int]) -> None:
    tile, overlap, multiple = layout
    image = torch.rand(3, height, width)
    tiled = restore_tiled(Same(multiple), image, tile, overlap, device="cpu")
    torch.testing.assert_close(tiled, image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(20, 30), (64, 64), (1, 1)])
def test_a_tile_that_covers_the_image_equals_the_untiled(size: tuple[int, int]) -> None:
    image = torch.rand(3, *size)
    model = Strided()
    assert torch.equal(restore_tiled(model, image, 64, 16, device="cpu"), restore(model, image, device="cpu"))


def test_a_local_strided_network_is_the_same_in_tiles() -> None:
    image = torch.rand(3, 53, 90)
    model = Strided()
    tiled = restore_tiled(model, image, 24, 6, device="cpu")
    torch.testing.assert_close(tiled, restore(model, image, device="cpu"), rtol=0, atol=1e-6)


def test_one_tile_at_a_time_and_progress() -> None:
    model = Same(4)
    steps: list[tuple[int, int]] = []
    restore_tiled(
        model,
        torch.rand(3, 70, 50),
        32,
        8,
        device="cpu",
        on_tile=lambda done, total: steps.append((done, total)),
    )
    assert set(model.shapes) == {(1, 3, 32, 32)}
    assert steps == [(i + 1, 6) for i in range(6)]
    assert model.trained == [False] * 6


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (500, 32, r"tile=500 is not a multiple of 16.*496 or 512"),
        (10, 0, r"tile=10.*use tile=16"),
        (0, 0, r"tile=0.*use tile=16"),
        (64, 49, r"overlap=49.*from 0 to 48.*overlap=8"),
        (64, -1, r"overlap=-1"),
    ],
)
def test_errors_name_the_nearest_valid_value(tile: int, overlap: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        restore_tiled(Same(16), torch.rand(3, 40, 40), tile, overlap, device="cpu")

"""Padding: the reflection, sizes, modes, devices and the errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dehaze_bench.errors import UsageError
from dehaze_bench.infer.pad import pad_to_multiple, reflected_indices, restore
from tests.infer.infer_networks import Same, Strided


@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 16))
def test_reflection_is_that_of_torch_where_torch_can(height: int, width: int, multiple: int) -> None:
    image = torch.rand(1, 3, height, width)
    bottom, right = -height % multiple, -width % multiple
    padded = pad_to_multiple(image, multiple)
    assert padded.shape == (1, 3, height + bottom, width + right)
    if bottom < height and right < width:
        assert torch.equal(padded, torch.nn.functional.pad(image, (0, right, 0, bottom), mode="reflect"))


def test_a_short_image_is_reflected_repeatedly() -> None:
    assert reflected_indices(3, 9).tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0]
    assert reflected_indices(2, 5).tolist() == [0, 1, 0, 1, 0]
    assert reflected_indices(1, 4).tolist() == [0, 0, 0, 0]


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 7, 32]))
def test_the_identity_gives_back_any_size(height: int, width: int, multiple: int) -> None:
    image = torch.rand(3, height, width)
    assert torch.equal(restore(Same(multiple), image, device="cpu"), image)


def test_evaluation_mode_inside_and_the_old_modes_after() -> None:
    model = nn.Sequential(Same(), nn.Dropout())
    model.multiple = 1  # type: ignore[assignment]
    model[1].eval()
    restore(model, torch.rand(3, 4, 4), device="cpu")
    assert model[0].trained == [False]
    assert (model.training, model[0].training, model[1].training) == (True, True, False)


def test_no_gradient_is_kept() -> None:
    restored = restore(Strided(), torch.rand(3, 5, 6), device="cpu")
    assert restored.shape == (3, 5, 6)
    assert not restored.requires_grad


@pytest.mark.parametrize("image", [torch.rand(1, 3, 4, 4), torch.rand(1, 4, 4), torch.rand(3, 0, 4)])
def test_other_shapes_are_refused(image: Tensor) -> None:
    with pytest.raises(UsageError, match=r"\(3, H, W\)"):
        restore(Same(), image, device="cpu")


def test_bytes_a_silent_model_and_a_resizing_model_are_refused() -> None:
    with pytest.raises(UsageError, match="divide 8-bit values by 255"):
        restore(Same(), torch.zeros(3, 4, 4, dtype=torch.uint8), device="cpu")
    with pytest.raises(UsageError, match="Identity does not state the multiple"):
        restore(nn.Identity(), torch.rand(3, 4, 4), device="cpu")
    smaller = nn.Sequential(nn.AvgPool2d(2))
    smaller.multiple = 2  # type: ignore[assignment]
    with pytest.raises(UsageError, match=r"returned \(1, 3, 2, 2\).*\(1, 3, 4, 4\)"):
        restore(smaller, torch.rand(3, 4, 4), device="cpu")

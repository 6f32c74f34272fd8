"""DehazeFormer: gradients, half precision, names of published tensors, faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.dehazeformer import DehazeFormer
from dehaze_bench.weights.maps.dehazeformer import map_dehazeformer


def small(**arguments: Any) -> DehazeFormer:
    torch.manual_seed(0)
    given = {"depths": (2, 2, 2, 1, 1), "dims": (8, 12, 16), "heads": (2, 2, 4, 1, 1), "window": 4, **arguments}
    return DehazeFormer(**given)


@pytest.mark.parametrize("convolution", ["depthwise", "full"])
def test_every_parameter_learns_but_what_moves_all_scores_alike(convolution: str) -> None:
    network = small(attention=(0.5, 0.5, 1, 0, 1), convolutions=[convolution] * 5)
    image = torch.rand(2, 3, 26, 33)
    restored = network(image)
    assert restored.shape == image.shape
    (restored * torch.randn_like(restored)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        alike = name.endswith("attn.meta.2.bias")  # softmax does not see it
        assert (parameter.grad.abs().max() > 1e-6) != alike, name


def test_it_runs_in_half_precision() -> None:
    network, image = small().eval(), torch.rand(1, 3, 24, 24)
    with torch.no_grad():
        exact = network(image)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(image)
    torch.testing.assert_close(rounded.float(), exact, atol=0.05, rtol=0.05)


def test_positions_of_a_published_file_are_left_out_and_other_tensors_kept() -> None:
    tensor = torch.zeros(1)
    name = "module.layer3.blocks.0.attn.attn.relative_positions"
    assert map_dehazeformer({name: tensor, "layer9.surprise": tensor}) == {"layers.8.surprise": tensor}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depths": (1, 1, 1)}, r"depths=\[1, 1, 1\] must have an entry for each"),
        ({"heads": (3, 2, 4, 1, 1)}, "8 channels cannot have 3 heads"),
        ({"attention": (0, 2, 1, 0, 0)}, "between 0 and 1"),
        ({"convolutions": ["Conv"] * 5}, "Unknown convolution 'Conv'"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**{"attention": (0.5, 0.5, 1, 0, 0), **arguments})


def test_a_small_image_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"DehazeFormer .* at least 25x25, not 24x64"):
        small(window=8)(torch.rand(1, 3, 24, 64))

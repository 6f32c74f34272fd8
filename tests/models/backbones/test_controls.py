"""ResNet, DeiT and Swin: published parameter counts, sizes, features, gradients, named faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dehaze_bench.errors import UsageError
from dehaze_bench.models.backbones.deit import DeiT
from dehaze_bench.models.backbones.resnet import ResNet
from dehaze_bench.models.backbones.swin import Swin
from tests.models.backbones.building import backbone, count, learns

PUBLISHED = {
    "resnet50": 25_557_032,
    "deit_ti": 5_717_416,
    "deit_s": 22_050_664,
    "deit_b": 86_567_656,
    "deit_ti_distilled": 5_910_800,
    "deit_s_distilled": 22_436_432,
    "deit_b_distilled": 87_338_192,
    "swin_t": 28_288_354,
    "swin_s": 49_606_258,
    "swin_b": 87_768_224,
}
SMALL: dict[str, nn.Module] = {
    "resnet": ResNet((1, 1, 1, 1), num_classes=3),
    "deit": DeiT(dim=12, depth=2, heads=3, patch=8, image_size=32, num_classes=3),
    "distilled": DeiT(dim=12, depth=2, heads=3, patch=8, image_size=32, num_classes=3, distilled=True),
    "swin": Swin(dim=6, depths=(2, 2), heads=(1, 2), window=4, image_size=32, num_classes=3),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert count(backbone(name)) == PUBLISHED[name]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_features_have_the_stated_widths_and_strides(name: str, size: tuple[int, int]) -> None:
    network: Any = SMALL[name].eval()
    maps = network.features(torch.rand(2, 3, *size))
    assert [tuple(x.shape) for x in maps] == [
        (2, width, size[0] // stride, size[1] // stride)
        for width, stride in zip(network.widths, network.strides, strict=True)
    ]
    assert network(torch.rand(2, 3, *size)).shape == (2, 3)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns(name: str) -> None:
    learns(SMALL[name].train(), torch.rand(2, 3, 32, 32))


def test_fused_attention_is_the_plain_one() -> None:
    torch.manual_seed(0)
    plain = DeiT(dim=12, depth=2, heads=3, patch=8, image_size=32, fused=False).eval()
    fused = DeiT(dim=12, depth=2, heads=3, patch=8, image_size=32, fused=True).eval()
    fused.load_state_dict(plain.state_dict())
    image = torch.rand(2, 3, 32, 48)
    torch.testing.assert_close(fused(image), plain(image))


def test_a_distilled_network_answers_with_the_mean_of_both_heads() -> None:
    network = DeiT(dim=12, depth=1, heads=3, patch=8, image_size=32, num_classes=3, distilled=True).eval()
    assert network.head_dist is not None
    image = torch.rand(2, 3, 32, 32)
    tokens_BLC, _ = network.tokens(image)
    expected = (network.head(tokens_BLC[:, 0]) + network.head_dist(tokens_BLC[:, 1])) / 2
    torch.testing.assert_close(network(image), expected)


def test_swin_sees_past_its_window_only_by_shifts() -> None:
    torch.manual_seed(0)
    network = Swin(dim=6, depths=(1,), heads=(1,), window=4, patch=4, image_size=32).eval()
    image = torch.rand(1, 3, 32, 32)
    changed = image.clone()
    changed[..., 31, 31] += 1
    before, after = network.features(image)[0], network.features(changed)[0]
    assert torch.equal(before[..., :4, :4], after[..., :4, :4])
    shifted = Swin(dim=6, depths=(3,), heads=(1,), window=4, patch=4, image_size=32).eval()
    before, after = shifted.features(image)[0], shifted.features(changed)[0]
    assert not torch.equal(before[..., 3, 3], after[..., 3, 3])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ResNet((1, 1)), "four stages"),
        (lambda: DeiT(dim=10, heads=3), "heads=3"),
        (lambda: DeiT(patch=16, image_size=100), "image_size"),
        (lambda: DeiT(dim=12, heads=3, depth=1, patch=8, image_size=32)(torch.rand(1, 3, 30, 32)), "30x32"),
        (lambda: Swin(dim=6, depths=(1, 1), heads=(1,)), "heads for every stage"),
        (lambda: Swin(dim=6, depths=(1,), heads=(4,)), "6 channels into 4 heads"),
    ],
)
def test_bad_arguments(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()

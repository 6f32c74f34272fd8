"""MambaIRv2: published sizes, padding inside, routing with and without noise, gradients, named faults.

The golden fixture is checked in tests/verify.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.mambairv2 import AttentiveStateSpace, MambaIRv2, mirrored, sort_tokens
from dehaze_bench.ops.selective_scan import selective_scan
from dehaze_bench.weights.maps.mambairv2 import map_mambairv2
from tests.models.backbones.building import count, learns
from tests.models.restorers.building import restorer

SR: dict[str, Any] = {"upsampler": "pixelshuffle", "upscale": 2}


def small(**arguments: Any) -> MambaIRv2:
    torch.manual_seed(0)
    sizes = {"dim": 12, "depths": (2, 1), "heads": 2, "d_state": 3, "window": 4, "rank": 5, "prompts": 6, "expand": 2.0}
    return MambaIRv2(**{**sizes, **arguments})


@pytest.mark.parametrize(
    ("name", "arguments", "millions"),
    [
        ("mambairv2_light", {"upsampler": "pixelshuffledirect", "upscale": 2}, 0.774),
        ("mambairv2_dn", {}, 22.66),
        ("mambairv2_dn", SR, 22.90),
        ("mambairv2_small", SR, 9.62),
        ("mambairv2_large", SR, 34.09),
    ],
)
def test_parameters_are_the_published_ones(name: str, arguments: dict[str, Any], millions: float) -> None:
    assert round(count(restorer(name, **arguments)) / 1e6, 3 if millions < 1 else 2) == millions


def test_the_same_size_build_differs_in_the_reconstruction_alone() -> None:
    extra = (132 * 9 + 1) * 64 + (64 * 9 + 1) * 256 + (64 * 9 + 1) * 3 - (132 * 9 + 1) * 3
    assert count(restorer("mambairv2_small", **SR)) - count(restorer("mambairv2_small")) == extra


@pytest.mark.parametrize("size", [(8, 12), (7, 5), (3, 1)])
@pytest.mark.parametrize("light", [True, False])
def test_any_size_is_kept(size: tuple[int, int], light: bool) -> None:
    assert small(light=light)(torch.rand(2, 3, *size)).shape == (2, 3, *size)
    assert small(light=light, **SR).eval()(torch.rand(1, 3, *size)).shape == (1, 3, 2 * size[0], 2 * size[1])


def test_pictures_are_mirrored_with_the_border_twice() -> None:
    assert mirrored(5, 4, torch.device("cpu")).tolist() == [0, 1, 2, 3, 4, 4, 3, 2]
    assert mirrored(1, 4, torch.device("cpu")).tolist() == [0, 0, 0, 0]
    assert mirrored(2, 5, torch.device("cpu")).tolist() == [0, 1, 1, 0, 0]
    network, hazy = small().eval(), torch.rand(1, 3, 5, 8)
    filled = hazy[:, :, [0, 1, 2, 3, 4, 4, 3, 2]]
    torch.testing.assert_close(network(hazy), network(filled)[:, :, :5])


def test_evaluation_repeats_unless_the_published_noise_is_asked_for() -> None:
    hazy = torch.rand(1, 3, 8, 8)
    quiet, noisy = small().eval(), small(eval_noise=True).eval()
    with torch.no_grad():
        for network in (quiet, noisy):
            for name, parameter in network.named_parameters():
                if "embedding" in name:
                    parameter.mul_(20)
        assert torch.equal(quiet(hazy), quiet(hazy))
        assert not torch.equal(noisy(hazy), noisy(hazy))
        assert not torch.equal(quiet.train()(hazy), quiet(hazy))


def test_tokens_are_sorted_stably_by_group() -> None:
    routes = sort_tokens(torch.tensor([[2, 0, 2, 1, 0, 1], [0, 0, 0, 0, 0, 0]]), (2, 3))
    assert routes.index_KL.tolist() == [[[1, 4, 3, 5, 0, 2]], [[0, 1, 2, 3, 4, 5]]]
    assert routes.inverse_KT[0, 0].tolist() == [4, 0, 5, 2, 1, 3]
    assert routes.is_permutation


def test_the_state_space_is_one_scan_over_sorted_tokens_with_prompts_in_raster_order() -> None:
    torch.manual_seed(0)
    space = AttentiveStateSpace(dim=6, d_state=3, expand=2.0, rank=4, prompts=5).eval()
    with torch.no_grad():
        for parameter in space.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        x_BHWC = torch.randn(2, 3, 4, 6)
        found = space(x_BHWC)
        for picture_HWC, ours in zip(x_BHWC, found, strict=True):
            group_L = space.route(picture_HWC.flatten(0, 1)).argmax(-1)
            order_L = torch.tensor(sorted(range(12), key=lambda token: (int(group_L[token]), token)))
            u_1DHW = space.in_proj(picture_HWC.permute(2, 0, 1)[None])
            u_1LD = (u_1DHW * space.cpe(u_1DHW).sigmoid()).flatten(2).transpose(1, 2)[:, order_L]
            dt, B, C = (u_1LD @ space.core.x_proj_weight[0].T).split([space.core.dt_rank, 3, 3], dim=-1)
            y_1LD = selective_scan(
                u_1LD,
                dt @ space.core.dt_projs_weight[0].T,
                -space.core.A_logs.exp(),
                B,
                C + (space.embeddingB @ space.embeddingA)[group_L],
                D_D=space.core.Ds,
                delta_bias_D=space.core.dt_projs_bias[0],
                delta_softplus=True,
            )
            assert isinstance(y_1LD, Tensor)
            expected = torch.empty(12, 6)
            expected[order_L] = space.out_proj(space.out_norm(y_1LD))[0]
            torch.testing.assert_close(ours.flatten(0, 1), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("light", [True, False])
def test_every_parameter_learns(light: bool) -> None:
    learns(small(light=light, qkv_bias=False), torch.rand(2, 3, 8, 12))


def test_the_index_of_positions_is_dropped_and_the_rest_kept() -> None:
    published = {"relative_position_index_SA": torch.zeros(4, 4), "surprise": torch.zeros(1)}
    assert list(map_mambairv2(published)) == ["surprise"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"heads": (2, 2, 2)}, "heads for every group"),
        ({"heads": 5}, "cannot split 12 channels into heads"),
        ({"upscale": 3}, "upscale=3"),
        ({"window": 0}, "window=0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)

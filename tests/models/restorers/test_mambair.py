"""MambaIR: published sizes, any image size, reconstructions, other scans, gradients, named faults.

The golden fixtures are checked in tests/verify.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dehaze_bench.counting import count_macs
from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.mambair import MambaIR, MambaIRUNet
from dehaze_bench.nn.normalisation import DIV2K_MEAN
from dehaze_bench.weights.maps.mambair import map_mambair
from tests.models.backbones.building import count, learns
from tests.models.backbones.scanning import scan_of
from tests.models.restorers.building import dense_gmacs, restorer
from tests.models.restorers.gates import opened

SR: dict[str, Any] = {"upsampler": "pixelshuffle", "upscale": 2}
LIGHT_SR: dict[str, Any] = {"upsampler": "pixelshuffledirect", "upscale": 2}
# What a build must have: to the unit where a fixture says so, else in millions as measured from the published code.
SIZES: list[tuple[str, dict[str, Any], float]] = [
    ("mambair_light", LIGHT_SR, 905_016),
    ("mambair_dn", {}, 15.78),
    ("mambair_dn_wide", {}, 20.17),
    ("mambair_dn_wide", SR, 20.42),
]


def small(**arguments: Any) -> MambaIR:
    torch.manual_seed(0)
    return opened(MambaIR(**{"dim": 8, "depths": (1, 1), "d_state": 3, "drop_path": 0.0, **arguments}))


def small_unet(**arguments: Any) -> MambaIRUNet:
    torch.manual_seed(0)
    sizes = {"dim": 4, "depths": (1, 1, 1, 1), "refinement": 1, "d_state": 2, "expand": 1.5}
    return opened(MambaIRUNet(**{**sizes, **arguments}))


@pytest.mark.parametrize(("name", "arguments", "expected"), SIZES)
def test_parameters_are_the_published_ones(name: str, arguments: dict[str, Any], expected: float) -> None:
    found = count(restorer(name, **arguments))
    assert (found if expected > 1000 else round(found / 1e6, 2)) == expected


def test_the_same_size_builds_are_as_large_as_they_say() -> None:
    assert count(restorer("mambair_light")) == 905_016 - (60 * 9 + 1) * 12 + (60 * 9 + 1) * 3
    assert count(restorer("mambair_real")) == 26_779_480
    assert count(restorer("mambair_real_wide")) == 30_750_424


def test_macs_are_the_published_ones() -> None:
    assert dense_gmacs("mambair_dn") == pytest.approx(987, rel=5e-3)
    one_block = restorer("mambair_dn", depths=[1])
    rest = count_macs(one_block, rule="vmamba") - count_macs(one_block, rule="dense")
    norms = 5 * 256 * 256 * (180 * 4 + 216)
    assert 36 * (rest - norms) == pytest.approx(295.6e9, rel=5e-3)  # 9 L D N + L D for each of four routes


@pytest.mark.parametrize("size", [(16, 16), (9, 14), (1, 5)])
def test_any_size_is_kept(size: tuple[int, int]) -> None:
    assert small()(torch.rand(2, 3, *size)).shape == (2, 3, *size)
    assert small(light=True, connection="3conv")(torch.rand(2, 3, *size)).shape == (2, 3, *size)


def test_the_unet_keeps_multiples_of_eight() -> None:
    assert MambaIRUNet.multiple == 8
    assert small_unet()(torch.rand(2, 3, 16, 24)).shape == (2, 3, 16, 24)


@pytest.mark.parametrize(
    ("upsampler", "upscale"),
    [("pixelshuffle", 1), ("pixelshuffle", 3), ("pixelshuffle", 4), ("pixelshuffledirect", 3), ("nearest+conv", 4)],
)
def test_super_resolution_enlarges(upsampler: str, upscale: int) -> None:
    restored = small(upsampler=upsampler, upscale=upscale)(torch.rand(1, 3, 6, 7))
    assert restored.shape == (1, 3, 6 * upscale, 7 * upscale)


def test_without_features_the_residual_build_is_the_identity_and_the_others_the_mean() -> None:
    hazy, mean = torch.rand(1, 3, 5, 6), torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1)
    for network, expected in ((small(), hazy), (small(**LIGHT_SR), mean.expand(1, 3, 10, 12))):
        with torch.no_grad():
            for parameter in network.reconstruction.parameters():
                parameter.zero_()
        torch.testing.assert_close(network(hazy), expected)


def test_grey_pictures_and_other_ranges() -> None:
    hazy = torch.rand(1, 1, 8, 8)
    grey = small(channels=1)
    torch.testing.assert_close(grey(hazy), grey.restore(hazy))
    wide = small(image_range=255.0)
    colour = torch.rand(1, 3, 8, 8)
    mean = torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1)
    torch.testing.assert_close(wide(colour), wide.restore((colour - mean) * 255) / 255 + mean)


@pytest.mark.parametrize("network", [small(), small(light=True, **LIGHT_SR), small(connection="3conv"), small_unet()])
def test_every_parameter_learns(network: nn.Module) -> None:
    learns(network, torch.rand(2, 3, 8, 16))


@pytest.mark.parametrize("name", ["hilbert", "local", "atrous", "multipath", "by_content", "mamba_nd", "random"])
def test_takes_other_scans(name: str) -> None:
    learns(small(scan=scan_of(name)), torch.rand(2, 3, 8, 12))


def test_the_unet_takes_another_scan_and_alternates_over_all_its_blocks() -> None:
    learns(small_unet(scan=scan_of("hilbert")), torch.rand(1, 3, 16, 16))
    network = small_unet(depths=(2, 1, 1, 1), scan=scan_of("mamba_nd"))
    first, second, third = (
        network.get_submodule(f"encoder_level{level}.{place}.self_attention")
        for level, place in ((1, 0), (1, 1), (2, 0))
    )
    starts = [layer.scan.on((4, 4))[0].index_KL[0, :2].tolist() for layer in (first, second, third)]  # type: ignore[union-attr,operator]
    assert starts == [[0, 1], [15, 14], [0, 4]]


def test_a_given_cross_scan_is_the_native_one() -> None:
    hazy = torch.rand(1, 3, 10, 8)
    torch.testing.assert_close(small(scan=scan_of("cross")).eval()(hazy), small().eval()(hazy))


def test_stochastic_depth_rises_to_its_rate() -> None:
    network = small(depths=(2, 1), drop_path=0.1)
    rates = [block.drop_path.rate for group in network.layers for block in group.blocks]
    assert rates == pytest.approx([0, 0.05, 0.1])


def test_unknown_tensors_are_left_in_the_map() -> None:
    assert set(map_mambair({"module.surprise": torch.zeros(1), "patch_embed.proj.weight": torch.zeros(1)})) == {
        "surprise",
        "patch_embed.weight",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"upsampler": "pixelshufle"}, "upsampler 'pixelshufle'. Did you mean 'pixelshuffle'"),
        ({"upscale": 2}, "upscale=2 needs upsampler=pixelshuffle"),
        ({"upsampler": "pixelshuffle", "upscale": 6}, "power of two or by 3, not by upscale=6"),
        ({"upsampler": "nearest+conv", "upscale": 2}, "enlarges by 4"),
        ({"connection": "2conv"}, "connection '2conv'"),
        ({"depths": ()}, "a block or more"),
        ({"d_state": 0}, "d_state >= 1"),
        ({"scan": scan_of("omni")}, "'omni' .* walks over channels"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)

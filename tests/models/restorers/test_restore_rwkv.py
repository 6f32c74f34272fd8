"""Restore-RWKV: its size in both forms, the recurrence and the shift against their definitions, other scans."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from dehaze_bench.counting import count_params
from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.restore_rwkv import OmniShift, RestoreRWKV, SpatialMix, rows_and_columns
from dehaze_bench.ops.wkv import bi_wkv
from dehaze_bench.scans import Scan, planar
from dehaze_bench.weights.maps.restore_rwkv import map_restore_rwkv
from tests.models.backbones.building import learns
from tests.models.restorers.building import dense_gmacs, restorer


def small(**arguments: Any) -> RestoreRWKV:
    torch.manual_seed(0)
    return RestoreRWKV(**({"dim": 4, "depths": (1, 1, 1, 1), "refinement": 1, "hidden_rate": 2} | arguments))


def branches(shift: OmniShift, x_BCHW: Tensor) -> Tensor:
    """The definition: input and three convolutions, weighed and added."""
    found = shift.alpha[0] * x_BCHW
    for weight, conv in zip(shift.alpha[1:], (shift.conv1x1, shift.conv3x3, shift.conv5x5), strict=True):
        found = found + weight * conv(x_BCHW)
    return found


def test_sizes_are_the_published_ones() -> None:
    network = restorer("restore_rwkv")
    learning = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert learning == 27_999_331  # the 28.0 M of the literature
    assert count_params(network) == learning + 374_400  # with the merged kernels that the released layer holds
    assert count_params(restorer("restore_rwkv", form="deploy")) == 27_849_219
    assert dense_gmacs("restore_rwkv") == pytest.approx(149.25, rel=0.005)  # ours: none is published for three channels


@pytest.mark.parametrize("size", [(8, 8), (16, 40)])
def test_any_multiple_of_eight_keeps_its_size(size: tuple[int, int]) -> None:
    network = small().eval()
    assert network.multiple == 8
    assert network(torch.rand(2, 3, *size)).shape == (2, 3, *size)


def test_every_parameter_of_either_form_learns() -> None:
    network = small()
    kernels = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    assert kernels
    assert all(name.endswith("conv5x5_reparam.weight") for name in kernels)
    network(torch.rand(2, 3, 16, 16)).square().sum().backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name
    learns(network.deploy(), torch.rand(2, 3, 16, 16))


def test_a_shift_is_the_sum_of_its_branches_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    shift = OmniShift(3).double()
    x = torch.rand(2, 3, 6, 7, dtype=torch.float64)
    found, expected = shift(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), branches(shift, x)
    torch.testing.assert_close(found, expected)
    learnt = [parameter for parameter in shift.parameters() if parameter.requires_grad]
    ours, theirs = (torch.autograd.grad(y.square().sum(), learnt) for y in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_the_deployed_form_gives_equal_outputs() -> None:
    network = small().eval()
    hazy = torch.rand(1, 3, 16, 24)
    deployed = network.deploy()
    assert count_params(deployed) < count_params(network)
    torch.testing.assert_close(deployed(hazy), network(hazy))
    torch.testing.assert_close(network.train()(hazy), deployed(hazy))
    built = small(form="deploy").eval()
    built.load_state_dict(map_restore_rwkv(deployed.state_dict()), strict=True)
    torch.testing.assert_close(built(hazy), deployed(hazy))
    torch.testing.assert_close(deployed.deploy()(hazy), deployed(hazy))


def test_the_recurrence_walks_rows_then_columns() -> None:
    assert rows_and_columns((2, 3), turns=3).tolist() == [[0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5], [0, 1, 2, 3, 4, 5]]
    torch.manual_seed(0)
    mix = SpatialMix(4, Scan("rows_and_columns", rows_and_columns), "train").double()
    x = torch.rand(2, 3, 5, 4, dtype=torch.float64)
    tokens = mix.omni_shift(x)
    k, v = mix.key(tokens), mix.value(tokens)
    decay, first = mix.spatial_decay.float(), mix.spatial_first.float()
    v = bi_wkv(decay[0], first[0], k.flatten(1, 2), v.flatten(1, 2)).unflatten(1, (3, 5))
    turned = [tensor.transpose(1, 2).flatten(1, 2) for tensor in (k, v)]
    v = bi_wkv(decay[1], first[1], *turned).unflatten(1, (5, 3)).transpose(1, 2)
    expected = mix.output(torch.sigmoid(mix.receptance(tokens)) * v)
    torch.testing.assert_close(mix(x), expected, rtol=1e-5, atol=1e-7)


def test_another_scan_is_walked_route_by_route() -> None:
    hazy = torch.rand(1, 3, 16, 16)
    cross = small(scan=Scan("cross", planar.cross, "mean"))
    assert count_params(cross) == count_params(small()) + 2 * 2 * (4 + 8 + 16 + 32 + 16 + 8 + 8 + 8)
    cross(hazy).sum().backward()
    assert all(parameter.grad is not None for parameter in cross.parameters() if parameter.requires_grad)
    native, given = small().eval(), small(scan=Scan("two", partial(rows_and_columns, turns=2))).eval()
    assert torch.equal(native(hazy), given(hazy))
    swapped = small(scan=Scan("swapped", lambda grid: rows_and_columns(grid)[::-1])).eval()
    assert not torch.allclose(native(hazy), swapped(hazy))


def test_an_alternating_scan_gives_every_block_a_route() -> None:
    network = small(scan=Scan("turns", rows_and_columns, "sum", "alternate"), depths=(2, 1, 1, 1))
    seconds = [block.att.scan.on((2, 3))[0].index_KL[0, 1].item() for block in network.encoder_level1]
    assert seconds == [1, 3]
    assert network.encoder_level1[0].att.spatial_decay.shape == (1, 4)


def test_one_channel_is_its_published_form() -> None:
    network = small(in_channels=1, out_channels=1).eval()
    network.output.weight.data.zero_()
    network.output.bias.data.zero_()
    image = torch.rand(1, 1, 8, 16)
    assert torch.equal(network(image), image)


def test_a_half_precision_pass_is_near_the_full_one() -> None:
    network = small().eval()
    hazy = torch.rand(1, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(hazy)
    torch.testing.assert_close(half.float(), network(hazy), rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: small(depths=(1, 1)), r"not \[1, 1\]"),
        (lambda: small(form="deployed"), "form 'deployed' of Restore-RWKV. Did you mean 'deploy'"),
        (
            lambda: small(scan=Scan("half", lambda grid: planar.raster(grid)[:, ::2]))(torch.rand(1, 3, 16, 16)),
            "Scan 'half'|scan 'half'",
        ),
    ],
)
def test_bad_arguments(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()

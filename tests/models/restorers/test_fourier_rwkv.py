"""Fourier-RWKV: its size, the order of its frequencies, shifts and skips against their definitions, other scans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dehaze_bench.counting import count_params
from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.fourier_rwkv import (
    DeformableShift,
    FourierRWKV,
    SemanticBridge,
    by_frequency,
    from_spectrum,
    to_spectrum,
)
from dehaze_bench.nn.shift import q_shift
from dehaze_bench.scans import Scan, planar
from dehaze_bench.weights.maps.fourier_rwkv import map_fourier_rwkv
from tests.models.backbones.building import learns
from tests.models.restorers.building import dense_gmacs, restorer


def small(**arguments: Any) -> FourierRWKV:
    torch.manual_seed(0)
    return FourierRWKV(**({"dim": 4, "depths": (2, 1, 1, 1), "decoder_depths": (1, 1, 2), "table": 4} | arguments))


def test_size_and_cost_are_the_published_ones() -> None:
    network = restorer("fourier_rwkv")
    assert count_params(network) == 5_306_848
    tables = sum(tensor.numel() for name, tensor in network.named_parameters() if name.endswith("pos_embed"))
    assert tables == 540_672
    assert dense_gmacs("fourier_rwkv") == pytest.approx(15.83, rel=0.005)


@pytest.mark.parametrize("size", [(8, 8), (16, 40)])
def test_any_multiple_of_eight_keeps_its_size(size: tuple[int, int]) -> None:
    network = small().eval()
    assert network.multiple == 8
    assert network(torch.rand(2, 3, *size)).shape == (2, 3, *size)


def test_every_parameter_learns() -> None:
    learns(small(), torch.rand(2, 3, 16, 24))


def test_what_it_starts_from_is_near_the_input() -> None:
    hazy = torch.rand(1, 3, 16, 16)
    network = small().eval()
    network.tail.weight.data.zero_()
    assert torch.equal(network(hazy), hazy)


def test_frequencies_are_ordered_by_their_product() -> None:
    order = by_frequency((4, 3))[0]
    # Rows count 0, 1 from the top and 1, 0 from there on; columns 0, 1, 2.
    ranks = np.outer([0, 1, 1, 0], [0, 1, 2]).ravel()[order]
    assert (np.diff(ranks) >= 0).all()
    assert order.tolist() == [0, 1, 2, 3, 6, 9, 10, 11, 4, 7, 5, 8]


@pytest.mark.parametrize("grid", [(4, 6), (3, 5), (1, 1)])
def test_a_spectrum_leads_back_to_its_picture(grid: tuple[int, int]) -> None:
    x = torch.rand(2, *grid, 3, dtype=torch.float64)
    spectrum = to_spectrum(x)
    assert spectrum.shape == (2, grid[0] * (grid[1] // 2 + 1), 6)
    torch.testing.assert_close(from_spectrum(spectrum, grid), x)


def test_a_shift_without_offsets_is_a_quarter_from_each_neighbour() -> None:
    torch.manual_seed(0)
    shift = DeformableShift(8)
    for parameter in shift.offset.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.rand(1, 5, 6, 8)
    found = shift(x)[:, 1:-1, 1:-1]
    # The groups of Vision-RWKV take left, right, upper and lower; here upper, lower, left and right.
    swapped = q_shift(x.roll(4, -1).flatten(1, 2), (5, 6)).unflatten(1, (5, 6)).roll(-4, -1)
    torch.testing.assert_close(found, swapped[:, 1:-1, 1:-1])


def test_offsets_are_columns_then_rows() -> None:
    shift = DeformableShift(4)
    for parameter in shift.offset.parameters():
        torch.nn.init.zeros_(parameter)
    # The gate starts at one half: the first group, which looks up by one, moves on to the left by one.
    shift.offset[2].bias.data[0] = -2.0
    x = torch.rand(1, 4, 4, 4)
    torch.testing.assert_close(shift(x)[0, 1:, 1:, 0], x[0, :-1, :-1, 0])


def test_a_skip_is_what_its_definition_says() -> None:
    torch.manual_seed(0)
    bridge = SemanticBridge(2)
    for parameter in bridge.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x, skip = torch.rand(3, 2, 6, 5), torch.rand(3, 2, 6, 5)
    found = bridge(x, skip)
    for b in range(3):
        likeness = torch.outer(skip[b].mean((1, 2)), x[b].mean((1, 2)))
        taps = likeness @ bridge.weights_proj.weight.T
        parts, start = [], 0
        for size in (3, 5, 7):
            kernels = taps[:, start : start + size**2].softmax(-1).view(2, 1, size, size)
            parts.append(F.conv2d(skip[b : b + 1], kernels, padding=size // 2, groups=2))
            start += size**2
        masks = bridge.fuse(torch.cat(parts, 1))
        smooth = sum(part * masks[:, i : i + 1] for i, part in enumerate(parts))
        mean = skip[b : b + 1].mean((2, 3), keepdim=True)
        smooth = smooth * (1 + bridge.inside_all) - bridge.inside_all * mean
        low, high = bridge.lamb_l.view(-1, 1, 1), bridge.lamb_h.view(-1, 1, 1)
        joined = torch.cat([smooth * low + skip[b : b + 1] * (1 + high), x[b : b + 1]], 1)
        torch.testing.assert_close(found[b : b + 1], bridge.final_conv(joined))


def test_another_scan_has_a_decay_and_a_bonus_per_route() -> None:
    cross = small(scan=Scan("cross", planar.cross, "mean"))
    assert count_params(cross) == count_params(small()) + 2 * 3 * 2 * (4 * 4 + 8 * 2 + 16 * 2 + 32)
    learns(cross, torch.rand(1, 3, 16, 16))


def test_the_order_of_frequencies_matters() -> None:
    hazy = torch.rand(1, 3, 16, 16)
    native, shuffled = small().eval(), small(scan=Scan("random", planar.random)).eval()
    shuffled.load_state_dict(native.state_dict())
    assert not torch.equal(native(hazy), shuffled(hazy))
    given = small(scan=Scan("frequency", by_frequency)).eval()
    assert torch.equal(native(hazy), given(hazy))


def test_the_form_of_the_released_kernel_is_a_choice() -> None:
    hazy = torch.rand(1, 3, 16, 16)
    paper, published = small().eval(), small(form="published").eval()
    difference = (paper(hazy) - published(hazy)).norm() / paper(hazy).norm()
    assert 0 < difference < 0.05


def test_a_half_precision_pass_is_near_the_full_one() -> None:
    network = small().eval()
    hazy = torch.rand(1, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(hazy)
    torch.testing.assert_close(half.float(), network(hazy), rtol=0.1, atol=0.05)


def test_stages_take_their_routes_in_turn() -> None:
    network = small(scan=Scan("turns", planar.cross, "sum", "alternate"))
    assert count_params(network) == count_params(small())
    layers = [layer for stage in [*network.encoder, *network.decoder] for layer in stage.layers]
    firsts = [layer.att.scan.on((4, 4))[0].index_KL[0, 1].item() for layer in layers]
    assert firsts == [1, 4, 14, 11, 1, 4, 14, 11, 1]


def test_published_names() -> None:
    names = {
        "encoder.head.weight": "head.weight",
        "encoder.dw2.body.0.bias": "down.1.bias",
        "encoder.enhanceBlock4.patch_embed.projection.weight": "encoder.3.patch_embed.proj.weight",
        "encoder.enhanceBlock1.layers.1.att.shift_func.offset.2.bias": "encoder.0.layers.1.att.shift.offset.2.bias",
        "decoder.enhanceBlock1.layers.0.ffn.key.weight": "decoder.2.layers.0.ffn.key.weight",
        "decoder.up3.body.0.weight": "up.0.0.weight",
        "decoder.fuse1.fuse.0.weight": "fuse.2.fuse.0.weight",
        "decoder.tail.weight": "tail.weight",
        "stranger": "stranger",
    }
    assert list(map_fourier_rwkv({name: torch.zeros(1) for name in names})) == list(names.values())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: small(depths=(1, 1, 1)), r"4 depths .* not \[1, 1, 1\]"),
        (lambda: small(dim=6), "dim=6 must be a multiple of 4"),
        (lambda: small(form="kernel")(torch.rand(1, 3, 8, 8)), "'kernel'"),
        (
            lambda: small(scan=Scan("half", lambda grid: planar.raster(grid)[:, ::2]))(torch.rand(1, 3, 16, 16)),
            "Scan 'half'|scan 'half'",
        ),
    ],
)
def test_bad_arguments(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()

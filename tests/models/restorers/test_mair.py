"""MaIR-UNet: published size, sequence shuffle attention against a shuffle, other scans, any size, named faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dehaze_bench.counting import count_macs
from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.mair import MaIR, SequenceShuffleAttention, StripeBlock, nested_stripes
from dehaze_bench.weights.maps.mair import map_mair
from tests.models.backbones.building import count, learns
from tests.models.backbones.scanning import scan_of
from tests.models.restorers.building import restorer


def small(**arguments: Any) -> MaIR:
    torch.manual_seed(0)
    return MaIR(**{"dim": 4, "depths": (1, 1, 1, 1), "refinement": 1, "d_state": 2, "stripe": 3, **arguments})


@pytest.mark.parametrize(("name", "parameters"), [("mair_dehaze", 3_404_376), ("mair_real", 26_293_296)])
def test_parameters_are_the_published_ones(name: str, parameters: int) -> None:
    assert count(restorer(name)) == parameters  # printed as 3.40 M and 26.3 M


def test_macs_of_the_dehazing_build() -> None:
    network = restorer("mair_dehaze")
    dense, whole = count_macs(network, (128, 128), "dense"), count_macs(network, (128, 128))
    # 9 L D N by hand: widths, states, blocks and tokens of the levels, encoder first, four routes
    levels = [(28, 4, 2, 1), (57, 8, 2, 4), (115, 16, 3, 16), (230, 32, 4, 64), (115, 16, 3, 16), (57, 8, 2, 4)]
    levels += [(57, 8, 2, 1), (57, 8, 2, 1)]
    assert whole - dense == sum(4 * 9 * 128 * 128 // shrunk * D * N * n for D, N, n, shrunk in levels)


def test_every_parameter_learns() -> None:
    learns(small(), torch.rand(2, 3, 16, 24))


@pytest.mark.parametrize("size", [(16, 24), (24, 8), (40, 16)])
def test_the_residual_is_added_to_the_input(size: tuple[int, int]) -> None:
    network, image = small().eval(), torch.rand(1, 3, *size)
    assert network(image).shape == image.shape
    torch.nn.init.zeros_(dict(network.named_parameters())["output.weight"])
    torch.testing.assert_close(network(image), image)


def test_states_and_hidden_widths_follow_the_levels() -> None:
    network = small(first_mlp_ratio=4.0, mlp_ratio=1.5, d_state=2)
    blocks = [module for module in network.modules() if isinstance(module, StripeBlock)]
    cores = [block.self_attention.core for block in blocks]
    assert [core.A_logs.shape[1] for core in cores] == [2, 4, 8, 16, 8, 4, 4, 4]
    assert [block.mlp.fc1.out_features for block in blocks] == [16, 12, 24, 48, 24, 12, 12, 12]


def test_sequence_shuffle_attention_is_a_shuffle_and_a_grouped_convolution() -> None:
    torch.manual_seed(0)
    num_routes, width = 4, 6
    attention, y_BKLD = SequenceShuffleAttention(num_routes, width), torch.randn(2, num_routes, 10, width)
    mean_BC11 = y_BKLD.mean(2).flatten(1)[..., None, None]  # routes side by side
    shuffled = mean_BC11.unflatten(1, (num_routes, width)).transpose(1, 2).flatten(1, 2)
    weights = attention.weight.flatten(0, 1)[..., None, None]
    gates = torch.sigmoid(F.conv2d(shuffled, weights, attention.bias.flatten(), groups=width))
    gates_BKD = gates.flatten(1).unflatten(1, (width, num_routes)).transpose(1, 2)
    torch.testing.assert_close(attention(y_BKLD), (y_BKLD * gates_BKD[:, :, None]).sum(1))


def test_a_published_gate_is_taken_apart_by_channels() -> None:
    name, num_routes, width = "latent.0.self_attention.gating.gating.1", 3, 2
    weight, bias = torch.arange(18.0).view(6, 3, 1, 1), torch.arange(6.0)
    found = map_mair({f"{name}.weight": weight, f"{name}.bias": bias})
    ours = "latent.0.self_attention.merge"
    assert found.keys() == {f"{ours}.weight", f"{ours}.bias"}
    assert torch.equal(found[f"{ours}.weight"], torch.arange(18.0).view(width, num_routes, num_routes))
    assert torch.equal(found[f"{ours}.bias"], torch.arange(6.0).view(width, num_routes))


def test_the_native_scan_is_the_one_of_the_library() -> None:
    image = torch.rand(1, 3, 24, 16)
    given = small(stripe=8, scan=scan_of("stripes")).eval()
    torch.testing.assert_close(given(image), small(stripe=8).eval()(image))
    assert nested_stripes(8).num_routes == 4


@pytest.mark.parametrize(
    "name", ["raster", "hilbert", "local", "atrous", "multipath_shuffle", "by_content", "mamba_nd"]
)
def test_takes_other_scans(name: str) -> None:
    network = small(scan=scan_of(name)).eval()
    assert torch.isfinite(network(torch.rand(1, 3, 16, 24))).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depths": (1, 1, 1)}, "MaIR has four levels"),
        ({"stripe": 0}, "width >= 1"),
        ({"scan": scan_of("omni")}, "walks over channels"),
        ({"scan": scan_of("vivim")}, "needs a volume"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)

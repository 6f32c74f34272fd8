"""RSDehamba: the paper's number of parameters, its schedule of blocks, scans, gradients, named faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dehaze_bench.counting import count_macs
from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.rsdehamba import RSDehamba
from dehaze_bench.scans import Scan, planar
from tests.models.backbones.building import count, learns
from tests.models.backbones.scanning import scan_of
from tests.models.restorers.building import dense_gmacs, restorer


def small(**arguments: Any) -> RSDehamba:
    torch.manual_seed(0)
    return RSDehamba(**{"dim": 4, "depths": (1, 2, 1), "d_state": 2, **arguments})


def test_parameters_are_the_papers_within_two_percent() -> None:
    parameters = count(restorer("rsdehamba"))
    assert parameters == 1_802_563
    assert parameters == pytest.approx(1.80e6, rel=0.02)


def test_macs_are_those_that_the_file_states() -> None:
    dense = dense_gmacs("rsdehamba")
    assert dense == pytest.approx(19.2, rel=5e-3)
    assert count_macs(restorer("rsdehamba")) / 1e9 - dense == pytest.approx(18.7, rel=5e-3)


def test_blocks_are_two_three_three_and_back() -> None:
    network = restorer("rsdehamba")
    assert isinstance(network, RSDehamba)
    blocks = [[module for module in level if hasattr(module, "op")] for level in (*network.encoder, *network.decoder)]
    assert [len(level) for level in blocks] == [2, 3, 3, 3, 2]
    assert [level[0].norm.normalized_shape[0] for level in blocks] == [32, 64, 128, 64, 32]
    assert all(block.op.scan.num_routes == 4 for level in blocks for block in level)


@pytest.mark.parametrize("size", [(16, 16), (8, 20)])
def test_every_parameter_learns(size: tuple[int, int]) -> None:
    network = small()
    learns(network, torch.rand(2, 3, *size))
    assert network(torch.rand(1, 3, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("name", ["raster", "hilbert", "local_cross", "atrous", "by_content", "multipath"])
def test_takes_scans_of_every_kind(name: str) -> None:
    learns(small(scan=scan_of(name)), torch.rand(1, 3, 16, 24))


def test_parameter_sets_follow_the_routes() -> None:
    def of_a_route(width: int) -> int:
        return (1 + 2 * 2) * width + width + width + 2 * width + width  # x_proj, dt_proj with bias, A, D

    fewer = count(small()) - count(small(scan=scan_of("raster")))
    assert fewer == 3 * sum(number * of_a_route(width) for number, width in ((2, 8), (4, 16), (1, 32)))


def test_an_alternating_scan_gives_every_block_its_route() -> None:
    network = small(scan=Scan("turns", planar.cross, "sum", "alternate"))
    blocks = [module for level in (*network.encoder, *network.decoder) for module in level if hasattr(module, "op")]
    starts = [block.op.scan.on((4, 4))[0].index_KL[0, :2].tolist() for block in blocks]
    assert starts == [[0, 1], [0, 4], [15, 14], [15, 11], [0, 1], [0, 4], [15, 14]]


def test_it_starts_near_the_hazy_picture_and_is_not_clamped() -> None:
    network, hazy = small(), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        network.unembed.weight.zero_()
        network.unembed.bias.fill_(2)
    torch.testing.assert_close(network(hazy), hazy + 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depths": (2, 3)}, "three levels"),
        ({"dim": 5}, "even width"),
        ({"scan": scan_of("omni")}, "'omni' .* walks over channels"),
        ({"scan": scan_of("hierarchical")}, "'hierarchical' .* volume"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)

"""LocalVMamba: published parameter counts and routes, sizes, other scans, the search, named faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dehaze_bench.errors import UsageError
from dehaze_bench.models.backbones.localvmamba import LocalVMamba
from dehaze_bench.scans.windows import CANDIDATES
from tests.models.backbones.building import backbone, count, learns
from tests.models.backbones.scanning import scan_of

PUBLISHED = {"localvmamba_t": (25_527_160, 15), "localvmamba_s": (49_748_536, 33)}
ROUTES = [[["h", "w3_flip"]], [["v_flip", "w2"]]]


def small(**arguments: Any) -> LocalVMamba:
    torch.manual_seed(0)
    return LocalVMamba(
        **{"directions": ROUTES, "depths": (1, 1), "dims": 8, "d_state": 2, "num_classes": 3, **arguments}
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_routes_are_the_published_ones(name: str) -> None:
    network: Any = backbone(name)
    blocks = [block for stage in network.layers for block in stage.blocks]
    assert (count(network), len(blocks)) == PUBLISHED[name]
    assert {block.op.scan.num_routes for block in blocks} == {4}
    assert {block.op.scan.merge for block in blocks} == {"attention"}


@pytest.mark.parametrize("size", [(32, 32), (16, 44), (28, 20)])
def test_features_at_any_size(size: tuple[int, int]) -> None:
    network = small().eval()
    finest = [n // 4 for n in size]
    maps = network.features(torch.rand(2, 3, *size))
    assert [tuple(x.shape) for x in maps] == [(2, 8, *finest), (2, 16, *(-(-n // 2) for n in finest))]
    assert network(torch.rand(2, 3, *size)).shape == (2, 3)


def test_every_parameter_learns_through_padded_windows() -> None:
    learns(small(), torch.rand(2, 3, 20, 28))


@pytest.mark.parametrize("name", ["cross", "local_all", "atrous"])
def test_another_scan_takes_the_place_of_all_routes(name: str) -> None:
    network = small(scan=scan_of(name))
    assert {stage.blocks[0].op.scan.num_routes for stage in network.layers} == {scan_of(name).num_routes}
    learns(network, torch.rand(2, 3, 20, 28))


def test_directions_may_be_listed_by_stage_by_block_or_once() -> None:
    by_block = small(directions=[ROUTES[0][0], ROUTES[1][0]])
    image = torch.rand(1, 3, 24, 24)
    torch.testing.assert_close(by_block.eval()(image), small().eval()(image))
    once = small(directions=["h", "v"])
    assert [stage.blocks[0].op.scan.num_routes for stage in once.layers] == [2, 2]


def test_a_search_weighs_all_candidates_and_keeps_the_best() -> None:
    network = small(directions=None)
    learns(network, torch.rand(2, 3, 20, 28))
    with torch.no_grad():
        weights = torch.zeros(len(CANDIDATES))
        weights[[1, 4, 6, 7]] = 1.0
        network.layers[0].blocks[0].op.merge.weights.copy_(weights)
    best = network.best_directions()
    assert best[0] == ["h_flip", "w2", "w7", "w7_flip"] and len(best) == 2
    assert small(directions=best).layers[0].blocks[0].op.scan.num_routes == 4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: small(directions=[["h"], ["v"], ["w2"]]), "2 blocks needs directions for each, not for 3"),
        (lambda: small(directions=["h", "w"]), "unknown 'w'"),
        (lambda: small().best_directions(), "searches nothing"),
        (lambda: small(scan=scan_of("omni")), "'omni'"),
    ],
)
def test_bad_arguments(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


def test_the_search_of_the_published_depths_has_the_candidates_in_every_block() -> None:
    network: Any = backbone("localvmamba_search")
    searches = [block.op for stage in network.layers for block in stage.blocks]
    assert len(searches) == 15 and {op.scan.num_routes for op in searches} == {len(CANDIDATES)}
    assert network.widths[0] == 32

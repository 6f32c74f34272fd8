"""UVM-Net: published size, the gate over the batch and the one over tokens, layouts, scans, sizes, the warning."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from dehaze_bench.counting import count_macs
from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers import uvmnet
from dehaze_bench.models.restorers.uvmnet import UVMNet
from tests.models.backbones.building import count, learns
from tests.models.backbones.scanning import scan_of
from tests.models.restorers.building import dense_gmacs, restorer

SLIM: dict[str, Any] = {"gate": "tokens", "layout": "positions"}


def small(**arguments: Any) -> UVMNet:
    torch.manual_seed(0)
    return UVMNet(**{"widths": (3, 4, 5, 6, 6), "token_grid": 4, "d_state": 2, **arguments})


def test_parameters_are_those_of_the_released_code() -> None:
    assert count(restorer("uvmnet")) == 1_003_940_200
    assert count(restorer("uvmnet", channel_ssm=False)) == 56_166_760


def test_the_slim_one_has_the_number_that_the_paper_prints() -> None:
    assert count(restorer("uvmnet_slim")) == 19_250_073


def test_macs_are_the_measured_ones() -> None:
    assert dense_gmacs("uvmnet") == pytest.approx(501.5, rel=5e-3)
    assert count_macs(restorer("uvmnet")) / 1e9 == pytest.approx(501.5 + 10.3, rel=5e-3)


@pytest.mark.parametrize("arguments", [{}, {"channel_ssm": False}, SLIM, {"gate": "tokens"}, {"layout": "positions"}])
def test_every_parameter_learns(arguments: dict[str, Any]) -> None:
    learns(small(**arguments), torch.rand(2, 3, 32, 16))


@pytest.mark.parametrize("size", [(16, 32), (20, 35)])
def test_odd_sizes_are_padded_inside(size: tuple[int, int]) -> None:
    assert small().eval()(torch.rand(1, 3, *size)).shape == (1, 3, *size)


def test_the_released_gate_is_open_for_one_picture_and_mixes_those_of_a_batch() -> None:
    block = small().inc.ub
    first, second = torch.rand(2, 1, 3, 4, 4).unbind(0)
    with torch.no_grad():
        assert torch.equal(block._weigh(torch.randn(1, 16, 3)), torch.ones(1, 16, 3))
        torch.testing.assert_close(block._weigh(torch.randn(3, 16, 3)).sum(0), torch.ones(16, 3))
        alone, together = block(first), block(torch.cat([first, second]))[:1]
        block.model2.out_proj.weight.normal_()  # with one picture the core of the gate has no say
        torch.testing.assert_close(block(first), alone)
        assert not torch.allclose(block(torch.cat([first, second]))[:1], together, rtol=1e-3)
    assert not torch.allclose(together, alone, rtol=1e-3)


def test_the_gate_over_tokens_keeps_pictures_apart_and_has_mean_one() -> None:
    block, x_BCGG = small(**SLIM).inc.ub, torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(block._weigh(torch.randn(2, 16, 3)).mean(1), torch.ones(2, 3))
    with torch.no_grad():
        torch.testing.assert_close(block(x_BCGG)[:1], block(x_BCGG[:1]))


@pytest.mark.parametrize("layout", uvmnet.LAYOUTS)
def test_a_map_is_what_its_tokens_were(layout: str) -> None:
    block = small(layout=layout).inc.ub
    x_BCGG = torch.arange(2 * 3 * 16.0).view(2, 3, 4, 4)
    tokens_BLC = block._to_tokens(x_BCGG)
    first: Tensor = tokens_BLC[0, 0]
    assert first.tolist() == ([0, 1, 2] if layout == "reshape" else [0, 16, 32])
    assert torch.equal(block._to_map(tokens_BLC), x_BCGG)


@pytest.mark.parametrize("name", ["hilbert", "bidirectional", "local", "atrous", "by_content", "mamba_nd"])
def test_takes_other_scans(name: str) -> None:
    learns(small(scan=scan_of(name), **SLIM), torch.rand(2, 3, 16, 16))


def test_parameter_sets_follow_the_routes_of_the_cores_over_tokens() -> None:
    one, four = small(**SLIM).inc.ub, small(scan=scan_of("cross"), **SLIM).inc.ub
    assert [four.model1.num_routes, four.model2.num_routes, four.model3.num_routes] == [4, 4, 1]
    assert count(four.model1) - count(one.model1) == 3 * (4 * 6 + 6 + 5 * 6 + 6 + 6 + 2 * 6 + 6)


def test_what_is_unusual_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    uvmnet._warn.cache_clear()
    with caplog.at_level(logging.WARNING):
        small()
        small()
        assert len(caplog.records) == 1
        assert "softmax over the batch" in caplog.text and f"{count(small()):,} parameters" in caplog.text
        small(**SLIM)
        small(scan=scan_of("hilbert"), gate="tokens")
    assert len(caplog.records) == 2
    assert "'hilbert'" in caplog.text and "model.layout=positions" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"gate": "token"}, "gate 'token'. Did you mean 'tokens'"),
        ({"layout": "position"}, "layout 'position'. Did you mean 'positions'"),
        ({"widths": (4, 4)}, "five widths"),
        ({"token_grid": 0}, "token_grid of at least 1"),
        ({"scan": scan_of("omni")}, "'omni' .* walks over channels"),
        ({"scan": scan_of("multiscale")}, "'multiscale' .* stride 2"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)

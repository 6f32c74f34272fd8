"""MMA: published size, any image size, the residual of the same-size build, other scans, gradients, named faults.

The golden fixture is checked in tests/verify.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.mma import MMA
from dehaze_bench.nn.branched import Branched
from dehaze_bench.scans import Scan, planar
from tests.models.backbones.building import count, learns
from tests.models.backbones.scanning import scan_of
from tests.models.restorers.building import restorer
from tests.models.restorers.gates import opened


def small(**arguments: Any) -> MMA:
    torch.manual_seed(0)
    return opened(MMA(**{"dim": 8, "num_blocks": 2, "d_state": 3, "d_conv": 3, **arguments}))


def test_parameters_are_the_published_ones() -> None:
    enlarging = count(restorer("mma", upscale=2, residual=False))
    assert round(enlarging / 1e6, 2) == 19.82
    assert enlarging - count(restorer("mma")) == (192 * 9 + 1) * 4 * 192


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (1, 3)])
@pytest.mark.parametrize("upscale", [1, 2, 3])
def test_any_size_goes_through(size: tuple[int, int], upscale: int) -> None:
    restored = small(upscale=upscale)(torch.rand(2, 3, *size))
    assert restored.shape == (2, 3, size[0] * upscale, size[1] * upscale)


def test_the_input_is_added_where_asked_for() -> None:
    hazy = torch.rand(1, 3, 6, 8)
    plain, added = small(), small(residual=True)
    mean = torch.tensor(plain.normalisation.mean).view(1, 3, 1, 1)
    torch.testing.assert_close(added(hazy), plain(hazy) + hazy - mean)


@pytest.mark.parametrize("name", ["hilbert", "cross", "local", "multipath", "by_content", "mamba_nd"])
def test_takes_other_scans(name: str) -> None:
    learns(small(scan=scan_of(name)), torch.rand(2, 3, 8, 12))


def test_branches_follow_the_routes_and_turns_follow_the_blocks() -> None:
    branch = 16 * (3 + 1) + 16 * 7 + 16 + 16 + 16 * 3 + 16  # convolution, x_proj, dt_proj with bias, A, D
    assert count(small(scan=scan_of("cross"))) - count(small()) == 2 * 2 * branch
    starts = []
    for block in small(scan=scan_of("mamba_nd")).body:
        assert isinstance(block.mixer, Branched)
        starts.append(block.mixer.scan.on((4, 4))[0].index_KL[:, 0].tolist())
    assert starts == [[0], [15]]


def test_a_given_bidirectional_sum_is_the_native_scan() -> None:
    hazy = torch.rand(1, 3, 5, 6)
    given = Scan("mine", planar.bidirectional, "sum")
    torch.testing.assert_close(small(scan=given).eval()(hazy), small().eval()(hazy))


def test_every_parameter_learns() -> None:
    learns(small(upscale=2), torch.rand(2, 3, 6, 8))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"upscale": 2, "residual": True}, "needs residual=false"),
        ({"upscale": 5}, "not by upscale=5"),
        ({"d_conv": 0}, "d_conv >= 1"),
        ({"scan": scan_of("omni")}, "'omni' walks over channels"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)

"""Options of the Mamba mixer (gate, state matrix, ranks), and states handed from one sequence to the next."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dehaze_bench.counting import count_params
from dehaze_bench.errors import UsageError
from dehaze_bench.nn.mixers import GatedConv, Mamba
from dehaze_bench.nn.scanned import ScannedLayer
from dehaze_bench.scans import Scan, Walk, planar

RASTER = Scan("raster", planar.raster, "mean")
SCANS = {
    "raster": RASTER,
    "cross": Scan("cross", planar.cross, "sum"),
    "padded": Scan("padded", lambda grid: np.append(planar.bidirectional(grid), [[-1], [-1]], axis=1), "sum"),
    "coarse": Scan("coarse", (Walk(planar.raster), Walk(planar.bidirectional, scale=2)), "sum"),
    "channels": Scan("channels", (Walk(planar.raster), Walk(planar.bidirectional, axis="channel")), "sum"),
}


def stirred(module: nn.Module) -> Any:
    """Move every parameter a little, so that nothing is hidden behind an initial zero or one."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def test_without_a_gate_the_mixer_is_narrower_and_gates_nothing() -> None:
    torch.manual_seed(0)
    mixer = Mamba(6, d_state=3, gate=False)
    assert count_params(Mamba(6, d_state=3)) - count_params(mixer) == 6 * mixer.width
    x_BLC = torch.randn(2, 9, 6)
    s_BLD, gate = mixer.enter(x_BLC)
    assert gate is None and s_BLD.shape[2] == mixer.width
    torch.testing.assert_close(mixer(x_BLC), mixer.out_proj(mixer.mix(s_BLD)))


def test_an_open_gate_is_no_gate() -> None:
    """silu(z) is 1 at one point; with all z there, the gated mixer with the same weights is the one without."""
    torch.manual_seed(0)
    plain, gated = Mamba(6, d_state=3, gate=False, bias=True), Mamba(6, d_state=3, bias=True)
    low, high = 1.0, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if middle / (1 + math.exp(-middle)) < 1 else (low, middle)
    weights = dict(plain.state_dict())
    for name, rest in (("weight", torch.zeros(gated.width, 6)), ("bias", torch.full((gated.width,), low))):
        weights[f"in_proj.{name}"] = torch.cat([weights[f"in_proj.{name}"], rest])
    gated.load_state_dict(weights)
    x_BLC = torch.randn(2, 7, 6)
    torch.testing.assert_close(gated(x_BLC), plain(x_BLC), rtol=1e-4, atol=1e-6)


def test_state_matrices_to_start_from() -> None:
    torch.manual_seed(0)
    start = {name: Mamba(64, d_state=4, init=name).A_log.detach().exp() for name in ("real", "constant", "random")}
    assert torch.equal(start["real"], Mamba(64, d_state=4).A_log.detach().exp())
    torch.testing.assert_close(start["real"], torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(128, 4))
    torch.testing.assert_close(start["constant"], torch.full((128, 4), 0.5))
    logs = start["random"].log()
    assert abs(float(logs.mean())) < 0.2 and abs(float(logs.std()) - 1) < 0.2
    assert len(logs.unique()) == logs.numel()


@pytest.mark.parametrize(
    ("options", "fewer"),
    [
        ({"d_state": 1}, 15 * (1 + 2) * 64),  # A, B and C
        ({"dt_rank": 1}, 2 * 64),  # of rank 2, one row of x_proj and one column of dt_proj
        ({"init": "random"}, 0),
    ],
)
def test_compression_takes_the_parameters_that_it_says(options: dict[str, Any], fewer: int) -> None:
    assert count_params(Mamba(32)) - count_params(Mamba(32, **options)) == fewer


@pytest.mark.parametrize("cut", [1, 2, 7, 12])
@pytest.mark.parametrize("options", [{}, {"d_conv": 0}, {"d_conv": 7}, {"gate": False}, {"d_state": 1}])
def test_two_halves_are_the_whole(options: dict[str, Any], cut: int) -> None:
    torch.manual_seed(1)
    mixer = stirred(Mamba(6, **{"d_state": 3, **options}))
    s_BLD = torch.randn(2, 13, mixer.width, requires_grad=True)
    first, state = mixer.mix_with_state(s_BLD[:, :cut], None)
    second, state = mixer.mix_with_state(s_BLD[:, cut:], state)
    whole, end = mixer.mix_with_state(s_BLD, None)
    expected = mixer.mix(s_BLD)
    halves = torch.cat([first, second], dim=1)
    for found in (halves, whole):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(state, end, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    (through,) = torch.autograd.grad(halves.square().sum(), s_BLD, retain_graph=True)
    (straight,) = torch.autograd.grad(expected.square().sum(), s_BLD)
    torch.testing.assert_close(through, straight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("grid", [(1, 5), (3, 5)])
@pytest.mark.parametrize("d_conv", [0, 4])
@pytest.mark.parametrize("scan", SCANS)
def test_a_layer_that_starts_from_nothing_is_the_layer(scan: str, d_conv: int, grid: tuple[int, int]) -> None:
    torch.manual_seed(2)
    layer = stirred(ScannedLayer(6, partial(Mamba, d_state=3, d_conv=d_conv), SCANS[scan]))
    x_BHWC = torch.randn(2, *grid, 6)
    y_BHWC, states = layer.forward_with_states(x_BHWC, None)
    torch.testing.assert_close(y_BHWC, layer(x_BHWC), rtol=1e-4, atol=1e-5)
    # One state for every walk over space, each with a row for every picture and route.
    assert sum(state[1].shape[0] for state in states) == 2 * SCANS[scan].num_routes


def test_every_route_goes_on_from_its_own_end() -> None:
    """Along rows, an upper half and then a lower half is the whole picture; columns end and begin elsewhere."""
    torch.manual_seed(3)
    layer = stirred(ScannedLayer(6, partial(Mamba, d_state=3), RASTER))
    x_BHWC = torch.randn(2, 4, 3, 6)
    upper, states = layer.forward_with_states(x_BHWC[:, :2], None)
    lower, _ = layer.forward_with_states(x_BHWC[:, 2:], states)
    torch.testing.assert_close(torch.cat([upper, lower], dim=1), layer(x_BHWC), rtol=1e-4, atol=1e-5)

    both = ScannedLayer(6, partial(Mamba, d_state=3), SCANS["cross"])
    _, ((_, h_NDN),) = both.forward_with_states(x_BHWC, None)
    (routes,) = SCANS["cross"].on((4, 3))
    s_BLD, _ = both.mixer.enter(x_BHWC.flatten(1, 2))
    for picture in range(2):
        for route in range(4):
            visited = s_BLD[picture : picture + 1, routes.index_KL[route]]
            _, (_, h_1DN) = both.mixer.mix_with_state(visited, None)
            torch.testing.assert_close(h_NDN[4 * picture + route], h_1DN[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Mamba(8, init="lin"), r"real state matrix and no init 'lin'.*s4d mixer"),
        (lambda: Mamba(8, init="radom"), "'random'"),
        (lambda: Mamba(8, dt_rank=0), "dt_rank=0"),
        (lambda: Mamba(8, d_state=0), "d_state=0"),
        (lambda: GatedConv(8).mix_with_state(torch.zeros(1, 2, 16), None), "GatedConv keeps no state"),
        (
            lambda: ScannedLayer(8, GatedConv, RASTER).forward_with_states(torch.zeros(1, 2, 2, 8), None),
            "GatedConv keeps no state",
        ),
    ],
)
def test_faults_are_named(make: Callable[[], Tensor], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()

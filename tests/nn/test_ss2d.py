"""SS2D: routes read through their index against routes that are gathered, merges, what a scan must be."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.conv_ffn import ConvFFN
from dehaze_bench.nn.ss2d import SS2D, SelectiveRoutes, check_planar, place
from dehaze_bench.nn.step_size import draw_step_bias
from dehaze_bench.scans import Scan, Walk
from dehaze_bench.scans.planar import bidirectional, cross, raster
from dehaze_bench.scans.skips import atrous, three_passes
from dehaze_bench.scans.volume import temporal_first
from dehaze_bench.scans.windows import local

GRID = (5, 6)
SCANS = {
    "cross": Scan("cross", cross),
    "padded": Scan("padded", partial(local, directions=["h", "w2_flip", "w4"])),
    "repeated": Scan("repeated", three_passes),
    "shared out": Scan("shared out", partial(atrous, step=2), merge="scatter"),
}


def core_and_tokens(scan: Scan) -> tuple[SelectiveRoutes, torch.Tensor]:
    torch.manual_seed(0)
    core = SelectiveRoutes(width=6, num_routes=scan.num_routes, d_state=3, dt_rank=2)
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return core, torch.randn(2, GRID[0] * GRID[1], 6, requires_grad=True)


@pytest.mark.parametrize("name", SCANS)
def test_routes_at_the_tokens_make_what_gathered_routes_make(name: str) -> None:
    core, u_BLD = core_and_tokens(SCANS[name])
    (routes,) = SCANS[name].on(GRID)
    gathered = place(core.steps(u_BLD, routes), routes, "sum")
    torch.testing.assert_close(core(u_BLD, routes), gathered, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(core(u_BLD, routes, "none").sum(2), gathered, atol=1e-5, rtol=1e-5)
    if name == "shared out":
        torch.testing.assert_close(core(u_BLD, routes, "scatter"), gathered)
    inputs = [u_BLD, *core.parameters()]
    weights = torch.randn_like(gathered)
    mine = torch.autograd.grad((core(u_BLD, routes) * weights).sum(), inputs)
    theirs = torch.autograd.grad((gathered * weights).sum(), inputs)
    for ours, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(ours, other, atol=1e-4, rtol=1e-4)


def test_a_later_walk_has_the_parameter_sets_after_those_of_the_first() -> None:
    core, u_BLD = core_and_tokens(SCANS["cross"])
    (pair,) = Scan("pair", bidirectional).on(GRID)
    (all_four,) = SCANS["cross"].on(GRID)
    rows = core(u_BLD, all_four, "none")[:, :, [0, 2]]
    assert torch.equal(core(u_BLD, pair, "none", first=0)[:, :, 0], core(u_BLD, pair, "none")[:, :, 0])
    torch.testing.assert_close(core(u_BLD, pair, "none", first=0)[:, :, 0], rows[:, :, 0])
    torch.testing.assert_close(core(u_BLD, pair, "none", first=1)[:, :, 1], rows[:, :, 1])


def test_the_published_codes_project_padding_and_repeats_too() -> None:
    core, _ = core_and_tokens(SCANS["padded"])
    per_token = 6 * 2 * (2 + 3)
    assert core.saved_macs(SCANS["cross"].on(GRID)[0]) == 0
    assert core.saved_macs(SCANS["padded"].on(GRID)[0]) == 3 * (64 - 30) * per_token
    assert core.saved_macs(SCANS["repeated"].on(GRID)[0]) == 2 * 30 * per_token


@pytest.mark.parametrize("merge", ["sum", "mean"])
def test_two_walks_are_one_scan(merge: str) -> None:
    whole, parts = Scan("whole", cross, merge), Scan("parts", (Walk(raster), Walk(_rest)), merge)
    layers = []
    for scan in (whole, parts):
        torch.manual_seed(0)
        layers.append(SS2D(8, scan, d_state=2))
    layers[1].load_state_dict(layers[0].state_dict())
    x_BHWC = torch.randn(1, *GRID, 8)
    torch.testing.assert_close(layers[0](x_BHWC), layers[1](x_BHWC))


def test_a_mean_counts_the_routes_that_visit_a_token() -> None:
    core, u_BLD = core_and_tokens(SCANS["shared out"])
    del core
    torch.manual_seed(0)
    layer = SS2D(3, Scan("atrous", partial(atrous, step=2), merge="mean"), d_state=2)
    other = SS2D(3, Scan("atrous", partial(atrous, step=2), merge="scatter"), d_state=2)
    other.load_state_dict(layer.state_dict())
    x_BHWD = u_BLD.detach().unflatten(1, GRID)
    torch.testing.assert_close(layer.walk(x_BHWD), other.walk(x_BHWD))


def test_states_of_other_pictures_do_not_matter() -> None:
    torch.manual_seed(0)
    layer, x_BHWC = SS2D(8, SCANS["padded"], d_state=2), torch.randn(3, *GRID, 8)
    torch.testing.assert_close(layer(x_BHWC)[1:2], layer(x_BHWC[1:2]))


@pytest.mark.parametrize(
    ("scan", "words"),
    [
        (Scan("deep", temporal_first), "needs a volume"),
        (Scan("thin", (Walk(raster), Walk(raster, axis="channel"))), "walks over channels"),
        (Scan("half", (Walk(raster), Walk(raster, scale=2))), "grid of stride 2"),
        (Scan("rows", (Walk(raster), Walk(raster, scale=(2, 1)))), "stride .2, 1."),
    ],
)
def test_scans_that_do_not_fit(scan: Scan, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_planar(scan)


def test_step_sizes_start_between_the_bounds() -> None:
    torch.manual_seed(0)
    step = torch.nn.functional.softplus(draw_step_bias(4, 500))
    assert step.shape == (4, 500)
    assert 1e-3 * 0.99 < step.min() < 2e-3 and 0.05 < step.max() < 0.1 * 1.01
    assert abs(step.log().mean() - torch.tensor([1e-3, 0.1]).log().mean()) < 0.1


def test_conv_ffn_sees_its_neighbours_and_no_more() -> None:
    torch.manual_seed(0)
    layer, x_BHWC = ConvFFN(4, 8), torch.randn(1, 5, 5, 4, requires_grad=True)
    layer(x_BHWC)[0, 2, 2].sum().backward()
    assert x_BHWC.grad is not None
    seen = x_BHWC.grad.abs().sum(-1)[0] > 0
    assert seen[1:4, 1:4].all() and seen.sum() == 9


def _rest(grid: tuple[int, ...]):  # type: ignore[no-untyped-def]
    return cross(grid)[1:]

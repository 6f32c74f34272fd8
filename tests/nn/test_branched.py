"""The branched layer against a literal version of itself: token by token, route by route."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.branched import Branched, SharedBranches, walk_shared
from dehaze_bench.nn.mixers import Mamba
from dehaze_bench.nn.positions import class_index, rotary_tables, rotate
from dehaze_bench.nn.tracks import lay_tracks
from dehaze_bench.ops.selective_scan import selective_scan
from dehaze_bench.scans import Scan, Walk, planar, skips, volume, windows
from dehaze_bench.scans.dynamic import ByContent, Shuffle

SCANS = {
    "bidirectional": Scan("bidirectional", planar.bidirectional, "mean"),
    "cross": Scan("cross", planar.cross, "sum"),
    "padded": Scan("local", partial(windows.local, directions=["h", "v_flip", "w2", "w2_flip"]), "attention"),
    "skipping": Scan("atrous", skips.atrous, "mean"),
    "gate": Scan("gate", planar.multipath, "gate"),
    "concat": Scan("concat", planar.bidirectional, "concat"),
    "two walks": Scan("two", (Walk(planar.raster), Walk(partial(windows.local, directions=["w2_flip"]))), "sum"),
    "repeating": Scan("repeating", lambda grid: np.repeat(planar.raster(grid), 2, axis=1), "sum"),
}
GRID = (3, 5)


def stirred(module: Any) -> Any:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def sequences(scan: Scan, class_token: str, mirrored: bool) -> list[list[int]]:
    """Return the tokens of each route as they are visited, with the class token among them."""
    found = []
    for routes in scan.on(GRID):
        for ids in routes.index_KL.tolist():
            at = class_index(class_token, routes.num_tokens)
            if at is not None:
                real = [token for token in ids if token >= 0]
                backwards = real[0] > real[-1]
                place = at if len(ids) >= routes.num_tokens else at * len(ids) // routes.num_tokens
                ids = [token + (token >= at) for token in ids]
                ids.insert(len(ids) - place if mirrored and backwards else place, at)
            found.append(ids)
    return found


def literally(layer: Branched, x_BLC: Tensor, routes: list[list[int]]) -> Tensor:
    x_BLD, z_BLD = layer.in_proj(x_BLC).chunk(2, dim=-1)
    width, outputs = x_BLD.shape[2], []
    for k, ids in enumerate(routes):
        own = slice(k * width, (k + 1) * width)
        steps = [x_BLD[:, token] if token >= 0 else torch.zeros_like(x_BLD[:, 0]) for token in ids]
        weight, bias = layer.conv1d.weight[own], layer.conv1d.bias
        assert bias is not None
        padding = layer.conv1d.padding[0]
        s_BDL = F.conv1d(torch.stack(steps, dim=2), weight, bias[own], padding=int(padding), groups=width)
        u_BLD = F.silu(s_BDL[..., : len(ids)]).transpose(1, 2)
        dt, B, C = (u_BLD @ layer.x_proj[k].T).split([layer.dt_rank, layer.d_state, layer.d_state], dim=-1)
        y_BLD = selective_scan(
            u_BLD,
            dt @ layer.dt_proj[k].T,
            -layer.A_log[k].exp(),
            B,
            C,
            D_D=layer.D[k],
            delta_bias_D=layer.dt_bias[k],
            delta_softplus=True,
            backend="reference",
        )
        assert isinstance(y_BLD, Tensor)
        out = [torch.zeros_like(x_BLD[:, 0]) for _ in range(x_BLD.shape[1])]
        for step, token in enumerate(ids):
            if token >= 0:
                out[token] = out[token] + y_BLD[:, step] * F.silu(z_BLD[:, token])
        outputs.append(torch.stack(out, dim=1))
    visits_T = torch.tensor([sum(token in ids for ids in routes) for token in range(x_BLD.shape[1])])
    return layer.out_proj(layer.merge(torch.stack(outputs, dim=1), visits_T))


@pytest.mark.parametrize(
    ("class_token", "mirrored"), [("none", True), ("first", True), ("middle", True), ("middle", False)]
)
@pytest.mark.parametrize("name", SCANS)
def test_every_branch_runs_along_its_route(name: str, class_token: str, mirrored: bool) -> None:
    torch.manual_seed(0)
    scan = SCANS[name]
    layer = stirred(Branched(8, scan, d_state=3, class_token=class_token, mirrored=mirrored))
    x_BLC = torch.randn(2, 15 + (class_token != "none"), 8)
    torch.testing.assert_close(layer(x_BLC, GRID), literally(layer, x_BLC, sequences(scan, class_token, mirrored)))


def test_the_class_token_keeps_its_place_when_the_sequence_is_reversed() -> None:
    """Vim reverses the sequence with its class token in it: 49 tokens, so the middle is not the middle from behind."""
    scan = Scan("bidirectional", planar.bidirectional, "sum")
    tracks = lay_tracks(scan, torch.zeros(1, 50, 1), (7, 7), "middle")
    assert tracks.routes.index_KL.tolist() == [list(range(50)), list(range(49, -1, -1))]
    fixed = lay_tracks(scan, torch.zeros(1, 50, 1), (7, 7), "middle", mirrored=False)
    assert [ids.index(24) for ids in fixed.routes.index_KL.tolist()] == [24, 24]
    first = lay_tracks(scan, torch.zeros(1, 50, 1), (7, 7), "first")
    assert first.routes.index_KL.tolist() == [list(range(50)), list(range(49, -1, -1))]


@pytest.mark.parametrize("class_token", ["none", "first", "middle"])
@pytest.mark.parametrize("order", [ByContent(reverse=True), Shuffle()])
def test_orders_that_are_found_in_the_forward_pass(order: Any, class_token: str) -> None:
    torch.manual_seed(0)
    scan = Scan("found", (Walk(planar.raster), Walk(order)), "mean")
    layer = stirred(Branched(8, scan, d_state=3, class_token=class_token))
    x_BLC = torch.randn(2, 15 + (class_token != "none"), 8, requires_grad=True)
    y_BLC = layer(x_BLC, GRID)
    assert y_BLC.shape == x_BLC.shape
    y_BLC.square().sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_volumes() -> None:
    torch.manual_seed(0)
    layer = Branched(8, Scan("tri", partial(volume.tri_orientation, slices=None), "sum"), d_state=3)
    assert layer(torch.randn(2, 24, 8), (2, 3, 4)).shape == (2, 24, 8)
    with pytest.raises(UsageError, match="three axes"):
        layer(torch.randn(2, 24, 8), (4, 6))


@pytest.mark.parametrize("class_token", ["none", "middle"])
@pytest.mark.parametrize(
    "scan", [SCANS["bidirectional"], Scan("attention", planar.cross, "attention"), SCANS["skipping"]]
)
def test_shared_branches_differ_in_their_state_matrix_alone(scan: Scan, class_token: str) -> None:
    torch.manual_seed(0)
    layer = stirred(SharedBranches(8, scan, d_state=3, class_token=class_token))
    x_BLC = torch.randn(2, 15 + (class_token != "none"), 8)
    s_BLD, z_BLD = layer.mixer.enter(x_BLC)
    assert z_BLD is not None
    outputs = []
    for k, ids in enumerate(sequences(scan, class_token, True)):
        A_log_DN = layer.mixer.A_log if k == 0 else layer.A_log[k - 1]
        real_L = torch.tensor(ids) >= 0
        u, delta, B, C = (part[:, ids] * real_L[:, None] for part in layer.mixer.drive(s_BLD))
        bias_D = layer.mixer.dt_proj.bias
        y = selective_scan(u, delta, -A_log_DN.exp(), B, C, layer.mixer.D, None, bias_D, True, backend="reference")
        assert isinstance(y, Tensor)
        y_BLD = torch.zeros_like(s_BLD)
        y_BLD[:, [token for token in ids if token >= 0]] = y[:, real_L]
        outputs.append(y_BLD * F.silu(z_BLD))
    visits_T = torch.tensor(
        [sum(token in ids for ids in sequences(scan, class_token, True)) for token in range(x_BLC.shape[1])]
    )
    expected = layer.mixer.out_proj(layer.merge(torch.stack(outputs, dim=1), visits_T))
    torch.testing.assert_close(layer(x_BLC, GRID), expected)


def test_a_shared_mixer_sees_every_route_on_its_own() -> None:
    torch.manual_seed(0)
    mixer = Mamba(8, d_state=3)
    x_BLC = torch.randn(2, 15, 8)
    y_BKLC, visits_T = walk_shared(mixer, x_BLC, SCANS["cross"], GRID)
    assert visits_T is None
    for k, ids in enumerate(sequences(SCANS["cross"], "none", True)):
        torch.testing.assert_close(y_BKLC[:, k, ids], mixer(x_BLC[:, ids]))


def test_what_was_laid_while_predicting_serves_training() -> None:
    layer = Branched(8, Scan("here alone", planar.cross, "sum"), d_state=3, class_token="middle")
    x_BLC = torch.randn(1, 16, 8)
    with torch.inference_mode():
        layer(x_BLC, GRID)
    layer(x_BLC, GRID).sum().backward()
    assert layer.in_proj.weight.grad is not None


def test_only_the_first_branch_draws_its_step_size() -> None:
    torch.manual_seed(0)
    layer = Branched(64, SCANS["cross"])
    step = F.softplus(layer.dt_bias)
    assert step[0].min() >= 1e-4 and step[0].max() <= 0.1 + 1e-6
    assert layer.dt_bias[1:].abs().max() <= layer.dt_rank**-0.5
    assert torch.equal(layer.A_log[1], layer.A_log[0])
    assert set(layer.no_weight_decay()) < {name for name, _ in layer.named_parameters()}


def test_rotations_keep_lengths_and_turn_by_the_difference_of_positions() -> None:
    cos_LC, sin_LC = rotary_tables((3, 5), 8)
    x_BLC = torch.randn(2, 15, 8)
    turned = rotate(x_BLC, cos_LC, sin_LC)
    torch.testing.assert_close(turned.norm(dim=2), x_BLC.norm(dim=2))
    torch.testing.assert_close(turned[:, 0], x_BLC[:, 0])  # the first position turns nothing
    same = torch.ones(1, 15, 8)
    q_LC = rotate(same, cos_LC, sin_LC)[0]
    # Neighbours in a row always meet at the same angle, whichever row they are in.
    products = torch.stack([(q_LC[5 * row + 1] * q_LC[5 * row + 2]).sum() for row in range(3)])
    torch.testing.assert_close(products, products[:1].expand(3))
    with pytest.raises(UsageError, match="fours"):
        rotary_tables((2, 2), 6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Branched(8, SCANS["cross"], d_conv=0), "d_conv=0"),
        (
            lambda: Branched(8, Scan("coarse", (Walk(planar.raster, scale=2),))),
            "'coarse' walks over a grid of",
        ),
        (lambda: Branched(8, Scan("ch", (Walk(planar.bidirectional, axis="channel"),))), "'ch' walks over channels"),
        (lambda: Branched(8, SCANS["cross"], class_token="last")(torch.zeros(1, 16, 8), GRID), "'last'"),
        (lambda: SharedBranches(8, Scan("found", ByContent())), "mixer: v2"),
    ],
)
def test_bad_arguments(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()

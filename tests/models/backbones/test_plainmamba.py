"""PlainMamba: published parameter counts, its quirks against a loop, sizes, other scans, gradients, named faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dehaze_bench.errors import UsageError
from dehaze_bench.models.backbones.plainmamba import CONTINUOUS, PlainMamba, PlainRoutes
from tests.models.backbones.building import backbone, count, learns
from tests.models.backbones.scanning import scan_of

PUBLISHED = {"plainmamba_l1": 7_551_656, "plainmamba_l2": 26_145_832, "plainmamba_l3": 50_956_456}


def small(**arguments: Any) -> PlainMamba:
    torch.manual_seed(0)
    return PlainMamba(
        **{
            "dim": 8,
            "depth": 2,
            "dw_layers": [0],
            "d_state": 2,
            "patch": 8,
            "image_size": 32,
            "num_classes": 3,
            **arguments,
        }
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert count(backbone(name)) == PUBLISHED[name]


def test_without_a_head_it_has_the_published_backbone() -> None:
    assert count(backbone("plainmamba_l1", num_classes=0)) == 7_358_656


@pytest.mark.parametrize("size", [(32, 32), (16, 48), (21, 38)])
def test_one_map_at_any_size(size: tuple[int, int]) -> None:
    network = small().eval()
    (found,) = network.features(torch.rand(2, 3, *size))
    assert network.widths == (8,) and network.strides == (8,)
    assert found.shape == (2, 8, *(-(-n // 8) for n in size))
    assert network(torch.rand(2, 3, *size)).shape == (2, 3)


@pytest.mark.parametrize("name", ["continuous", "cross", "spiral", "random"])
def test_every_parameter_learns_with_any_scan_that_visits_all_tokens(name: str) -> None:
    network = small(scan=scan_of(name))
    assert count(network) == count(small())  # one parameter set, whatever the number of routes
    if name == "continuous":  # all kinds of steps occur
        learns(network, torch.rand(2, 3, 32, 24))
    else:
        assert torch.isfinite(network(torch.rand(2, 3, 32, 24))).all()


def test_only_the_input_follows_a_route() -> None:
    """The definition of the published code, step by step."""
    torch.manual_seed(0)
    core = PlainRoutes(width=6, num_routes=4, d_state=3, dt_rank=2)
    with torch.no_grad():
        core.direction_Bs.mul_(20)
    u_BLD = torch.randn(2, 12, 6)
    (routes,) = CONTINUOUS.on((3, 4))
    dt, B, C = core.x_proj(u_BLD).split([2, 3, 3], dim=-1)
    delta = F.softplus(core.dt_proj(dt) + core.dt_proj.bias)  # the bias twice
    expected = torch.zeros_like(u_BLD)
    for route in routes.index_KL.tolist():
        h, before = torch.zeros(2, 6, 3), None
        for step, token in enumerate(route):
            move = 0 if before is None else {1: 1, -1: 2, -4: 3, 4: 4}[token - before]
            drive = (delta[:, step] * u_BLD[:, token])[..., None] * (B[:, step] + core.direction_Bs[move])[:, None]
            h = torch.exp(delta[:, step][..., None] * -core.A_log.exp()) * h + drive
            expected[:, token] += (h * C[:, step][:, None]).sum(-1) + core.D * u_BLD[:, token]
            before = token
    torch.testing.assert_close(core(u_BLD, routes), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(core(u_BLD, routes, "none").sum(2), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["atrous", "by_content"])
def test_a_scan_without_fixed_permutations_is_refused_where_it_is_seen(name: str) -> None:
    with pytest.raises(UsageError, match=r"visit every token once .* scan=continuous"):
        small(scan=scan_of(name))(torch.rand(1, 3, 40, 40))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"patch": 7}, "multiple of 2"), ({"scan": scan_of("omni")}, "'omni'"), ({"d_state": 0}, "d_state >= 1")],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)

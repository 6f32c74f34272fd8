"""RSDformer: its size, what it never uses, its couplings, pooled filters and gates against their definitions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dehaze_bench.compose import compose_run
from dehaze_bench.counting import count_params
from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.rsdformer import (
    HIGH_BINS,
    LOW_BINS,
    Coupling,
    DualFrequencyFFN,
    Gate,
    RSDformer,
    pool_quarters,
)
from dehaze_bench.weights.maps.rsdformer import map_rsdformer
from tests.models.restorers.building import restorer


def small(**arguments: Any) -> RSDformer:
    torch.manual_seed(0)
    return RSDformer(**({"dim": 8, "depths": (1, 2, 1), "heads": (1, 2, 4), "expansion": 2} | arguments))


def test_size_is_the_published_one() -> None:
    assert count_params(restorer("rsdformer")) == 5_354_138  # test_costs.py counts its multiply-accumulates


def test_blocks_and_heads_are_those_of_the_published_build() -> None:
    network = restorer("rsdformer")
    parts = ("encoder_level1", "encoder_level2", "encoder_level3", "decoder_level2", "decoder_level1", "refinement")
    levels = [network.get_submodule(part) for part in parts]
    assert [len(level) for level in levels] == [4, 8, 8, 8, 4, 4]
    assert [len(level[0].attn.temperature) for level in levels] == [2, 4, 8, 4, 4, 4]
    assert [level[0].ffn.fc1.weight.shape[0] for level in levels] == [72, 144, 288, 144, 72, 72]


@pytest.mark.parametrize("size", [(8, 8), (12, 40)])
def test_any_multiple_of_four_keeps_its_size(size: tuple[int, int]) -> None:
    network = small().eval()
    assert network.multiple == 4
    assert network(torch.rand(2, 3, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("arguments", [{}, {"norm": "biasfree", "bias": True}])
def test_everything_learns_but_what_is_unused(arguments: dict[str, Any]) -> None:
    network = small(**arguments)
    out = network(torch.rand(2, 3, 16, 24))
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad != ("unused" in name.split(".")), name
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_what_is_unused_changes_nothing() -> None:
    network, hazy = small().eval(), torch.rand(1, 3, 16, 16)
    before = network(hazy)
    for name, parameter in network.named_parameters():
        if "unused" in name:
            parameter.data.fill_(7.0)
    assert torch.equal(network(hazy), before)


def test_the_input_is_added() -> None:
    network, hazy = small().eval(), torch.rand(1, 3, 16, 16)
    network.output.weight.data.zero_()
    assert torch.equal(network(hazy), hazy)


def test_a_coupling_can_be_undone() -> None:
    torch.manual_seed(0)
    coupling, x = Coupling(6).double(), torch.rand(1, 6, 8, 8, dtype=torch.float64)
    first, second = coupling(x).chunk(2, dim=1)
    first = (first - coupling.eta(second)) * (-coupling.rho(second)).exp()
    second = second - coupling.phi(first)
    mixed = torch.cat([first, second], dim=1)
    weight = coupling.shuffle.weight[:, :, 0, 0]
    found = torch.linalg.solve(weight, (mixed - coupling.shuffle.bias[:, None, None]).flatten(2))
    assert torch.allclose(found.view_as(x), x)


def test_each_quarter_is_pooled_to_its_own_bins() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 9, 15)
    low = pool_quarters(x, F.adaptive_avg_pool2d, LOW_BINS)
    assert torch.allclose(low[:, :2], x[:, :2].mean((2, 3), keepdim=True).relu().expand(2, 2, 9, 15), atol=1e-6)
    thirds = x[:, 4:6].unflatten(3, (3, 5)).unflatten(2, (3, 3)).mean((3, 5))
    assert torch.allclose(low[:, 4:6, 1::3, 2::5], thirds.relu(), atol=1e-6)  # a bin's middle has its value
    high = pool_quarters(x, F.adaptive_max_pool2d, HIGH_BINS)
    assert torch.allclose(high[:, :2], x[:, :2].amax((2, 3), keepdim=True).relu().expand(2, 2, 9, 15), atol=1e-6)


def test_filters_are_added_to_the_features() -> None:
    torch.manual_seed(0)
    ffn, x = DualFrequencyFFN(4, 8), torch.rand(1, 4, 16, 16)
    ffn.fusion.weight.data.zero_()
    ffn.fusion.bias.data.fill_(0.5)
    assert torch.allclose(ffn(x), ffn.fc2(ffn.fc1(x) + 0.5))
    ffn.fusion.bias.data.fill_(-0.5)
    assert torch.allclose(ffn(x), ffn.fc2(ffn.fc1(x)))


def test_gates_start_as_published() -> None:
    network = small()
    assert network.gate_level1.weight.item() == pytest.approx(-0.6)
    assert network.gate_level2.weight.item() == pytest.approx(-1.0)
    mixed = Gate(-1.0)(torch.full((1, 2, 3, 3), 2.0), torch.full((1, 2, 3, 3), 4.0))
    assert torch.allclose(mixed, torch.tensor(4.0 - 2.0 * torch.sigmoid(torch.tensor(-1.0)).item()))


def test_published_names_become_ours() -> None:
    published = {
        "module.patch_embed.proj.weight": "patch_embed.weight",
        "encoder_level1.0.norm1.body.bias": "encoder_level1.0.norm1.bias",
        "encoder_level1.0.ffn.norm.body.weight": "encoder_level1.0.ffn.unused.weight",
        "refinement.3.attn.DFEB.net.2.theta_rho.bottleneckBlock.7.body.bias": "refinement.3.attn.detail.2.rho.7.bias",
        "refinement.3.attn.DFEB.net.2.theta_eta.bottleneckBlock.0.weight": "refinement.3.attn.detail.2.eta.0.weight",
        "decoder_level2.1.ffn.dynamices_filters.fusion.bias": "decoder_level2.1.ffn.fusion.bias",
        "down1_2.body.0.weight": "down1_2.body.0.weight",
        "DGFB1.w": "gate_level2.weight",
    }
    assert list(map_rsdformer({name: torch.zeros(1) for name in published})) == list(published.values())


@pytest.mark.parametrize("density", ["thin", "moderate", "thick"])
def test_a_recipe_for_each_density(density: str) -> None:
    cfg = compose_run([f"recipe=rsdformer_satehaze1k_{density}"]).cfg
    assert cfg.dataset.name == cfg.testset.name == f"satehaze1k_{density}"
    assert cfg.model._target_.endswith("RSDformer")
    assert (cfg.train.crop, cfg.train.select, cfg.protocol.name) == (128, "best@test", "rsdformer")


def test_what_cannot_be_built_says_why() -> None:
    with pytest.raises(UsageError, match="three levels"):
        small(depths=(4, 8, 8, 4))
    with pytest.raises(UsageError, match=r"no norm 'WithBias'.*withbias"):
        small(norm="WithBias")
    with pytest.raises(UsageError, match="even dim, not 9"):
        small(dim=9)
    with pytest.raises(UsageError, match="split 8 channels into 3 heads"):
        small(heads=(3, 2, 4))
    with pytest.raises(UsageError, match="quarters of its 10 hidden channels"):
        small(expansion=1.25)

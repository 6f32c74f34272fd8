"""Multiply-accumulates by each paper's rule equal what was measured on the published code, to the printed digits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dehaze_bench.counting import RULES, count_macs, count_params, find_rule, rule_of
from dehaze_bench.errors import UsageError
from tests.models.backbones.building import backbone

# G multiply-accumulates at 224 (VRWKV-L at 384) with the digits that were printed.
MEASURED = {
    "resnet50": "4.112",
    "deit_ti": "1.258",
    "deit_s": "4.608",
    "deit_b": "17.583",
    "swin_t": "4.509",
    "swin_s": "8.769",
    "vim_t": "1.482",
    "vim_s": "5.14",
    "vim_b": "19.0",
    "localvim_t": "1.482",
    "localvim_s": "4.77",
    "vmamba_t_v0": "5.627",
    "vmamba_s_v0": "11.231",
    "vmamba_b_v0": "18.020",
    "vmamba_t_s2l5": "4.858",
    "vmamba_s_s2l15": "8.716",
    "vmamba_b_s2l15": "15.359",
    "vmamba_t_s1l8": "4.906",
    "vmamba_s_s1l20": "8.612",
    "vmamba_b_s1l20": "15.221",
    "localvmamba_t": "5.729",
    "localvmamba_s": "11.373",
    "plainmamba_l1": "3.018",
    "plainmamba_l2": "8.084",
    "plainmamba_l3": "14.449",
    "efficientvmamba_t": "0.801",
    "efficientvmamba_s": "1.336",
    "efficientvmamba_b": "3.978",
    "msvmamba_nano": "0.878",
    "msvmamba_micro": "1.525",
    "msvmamba_tiny": "4.599",
    "msvmamba_v3_t": "5.131",
    "msvmamba_v3_s": "8.766",
    "msvmamba_v3_b": "16.275",
    "vrwkv_t": "1.169",
    "vrwkv_s": "4.593",
    "vrwkv_b": "18.203",
    "vrwkv_l": "189.3",
    "videomamba_ti": "1.075",
}


@pytest.mark.parametrize("name", MEASURED)
def test_the_measured_figure_to_the_printed_digits(name: str) -> None:
    network = backbone(name)
    size = (384, 384) if name == "vrwkv_l" else (224, 224)
    found = count_macs(network, size, rule_of(network)) / 1e9
    digits = len(MEASURED[name].split(".")[1])
    assert f"{found:.{digits}f}" == MEASURED[name]


@pytest.mark.parametrize(
    ("name", "dense", "mamba"),
    [
        ("vim_t", "1.293", "1.823"),
        ("vim_s", "4.852", "5.912"),
        ("vim_b", "18.767", "20.887"),
        ("localvim_t", "1.261", None),
        ("localvim_s", "4.550", None),
    ],
)
def test_without_scans_and_with_scans_as_the_mamba_authors_count(name: str, dense: str, mamba: str | None) -> None:
    network = backbone(name)
    assert f"{count_macs(network, (224, 224), 'dense') / 1e9:.3f}" == dense
    if mamba is not None:
        assert f"{count_macs(network, (224, 224), 'mamba') / 1e9:.3f}" == mamba


def test_the_size_that_was_shipped_as_small_and_is_not_the_published_one() -> None:
    network = backbone("efficientvmamba_s", dims=96)
    assert (count_params(network), f"{count_macs(network, (224, 224), 'vmamba') / 1e9:.3f}") == (24_757_456, "2.806")


def test_counting_leaves_the_network_as_it_was() -> None:
    network = backbone("vmamba_t_v0", depths=[1, 1]).train()
    hooks = sum(len(module._forward_hooks) for module in network.modules())
    count_macs(network, (32, 32), "vmamba")
    assert network.training
    assert sum(len(module._forward_hooks) for module in network.modules()) == hooks


def test_a_layer_is_counted_by_hand() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.norm = nn.LayerNorm(4)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(image).permute(0, 2, 3, 1))

    with torch.device("meta"):
        network = Small()
    assert count_params(network) == 3 * 4 * 9 + 4 + 8
    assert count_macs(network, (8, 6), "dense") == 8 * 6 * 4 * 27
    assert count_macs(network, (8, 6), "fvcore") == 8 * 6 * 4 * 27 + 5 * 8 * 6 * 4
    assert rule_of(network) == "ours"


def test_every_rule_is_described_and_unknown_ones_are_named() -> None:
    assert all(rule.description for rule in RULES.values())
    with pytest.raises(UsageError, match="'vmamba'"):
        find_rule("vmanba")

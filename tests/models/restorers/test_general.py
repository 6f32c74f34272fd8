"""Restorers that were published for many tasks: Restormer, PromptIR, NAFNet, Uformer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.nafnet import NAFNet
from dehaze_bench.models.restorers.promptir import PromptIR
from dehaze_bench.models.restorers.restormer import Restormer
from dehaze_bench.models.restorers.uformer import Uformer
from dehaze_bench.weights.maps.promptir import map_promptir
from dehaze_bench.weights.maps.uformer import map_uformer

SMALL = {
    "restormer": lambda: Restormer(8, (1, 1, 1, 1), 1, (1, 2, 4, 8), norm="biasfree"),
    "promptir": lambda: PromptIR((1, 1, 1, 1), 1),
    "nafnet": lambda: NAFNet(4, (1, 1), 1, (1, 1)),
    "uformer": lambda: Uformer(4, (1, 1, 1, 1, 1, 1, 1, 1, 2), window=2, heads=(1,) * 9, image_size=32),
}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("restormer", 26_126_644),
        ("promptir", 35_592_263),
        ("nafnet_w32", 17_111_907),
        ("nafnet_w64", 67_888_835),
        ("uformer_b", 50_880_946),
    ],
)
def test_published_sizes(name: str, parameters: int) -> None:
    network = build.meta_model(compose_run([f"model={name}"]).cfg)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_what_is_used(name: str) -> None:
    torch.manual_seed(0)
    network: nn.Module = SMALL[name]()
    for parameter in network.parameters():  # the published scales of NAFNet start from zero, which blocks gradients
        if parameter.requires_grad and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    height, width = 32, 64
    hazy = torch.rand(2, 3, height, width)
    restored = network(hazy)
    assert restored.shape == hazy.shape
    restored.square().mean().backward()
    for key, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
        else:
            assert key.startswith("unused.")


def test_nafnet_takes_any_size() -> None:
    network = SMALL["nafnet"]().eval()
    hazy = torch.rand(1, 3, 13, 18)
    assert network(hazy).shape == hazy.shape


def test_what_cannot_be_built_says_why() -> None:
    with pytest.raises(UsageError, match=r"Unknown norm 'bias'.*Did you mean"):
        Restormer(norm="bias")
    with pytest.raises(UsageError, match="four levels"):
        Restormer(depths=(1, 2, 3))
    with pytest.raises(UsageError, match="split 48 channels of level 1 into 5 heads"):
        PromptIR(heads=(5, 2, 4, 8))
    with pytest.raises(UsageError, match="as many decoder stages"):
        NAFNet(decoder=(1, 1))
    with pytest.raises(UsageError, match="nine stages"):
        Uformer(depths=(1, 2, 3))


def test_maps_split_and_join() -> None:
    maps = map_uformer({f"conv.blocks.0.attn.qkv.to_{n}.bias": torch.ones(k) for n, k in (("q", 2), ("kv", 4))})
    assert {name: tuple(x.shape) for name, x in maps.items()} == {"stages.4.0.attn.qkv.bias": (6,)}
    ours = map_promptir({"net.noise_level3.norm1.body.weight": torch.ones(1), "net.chnl_reduce1.weight": torch.ones(1)})
    assert list(ours) == ["prompting.4.block.norm1.weight", "unused.chnl_reduce1.weight"]

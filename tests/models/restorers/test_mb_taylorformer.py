"""MB-TaylorFormer: both sizes, the attention and the weighing of paths against their definitions, named faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dehaze_bench.counting import count_macs, count_params
from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.mb_taylorformer import (
    DeformableEmbed,
    MBTaylorFormer,
    PathFusion,
    TaylorAttention,
)
from dehaze_bench.weights.maps.mb_taylorformer import map_mb_taylorformer
from tests.models.backbones.building import learns
from tests.models.restorers.building import restorer


def small(**arguments: Any) -> MBTaylorFormer:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {"dims": (8, 16, 16, 16), "depths": (1, 1, 1, 1), "paths": (2, 1, 2, 3)}
    return MBTaylorFormer(**(defaults | arguments))


@pytest.mark.parametrize(("name", "parameters"), [("mb_taylorformer_b", 2_676_520), ("mb_taylorformer_l", 7_432_472)])
def test_sizes_are_the_published_ones(name: str, parameters: int) -> None:
    assert count_params(restorer(name)) == parameters


@pytest.mark.parametrize(
    ("name", "released", "ours"),
    [
        ("mb_taylorformer_b", 36.97, 35.354),
        pytest.param("mb_taylorformer_l", 83.62, 80.109, marks=pytest.mark.slow),
    ],
)
def test_costs_are_the_released_ones_less_what_those_spend_twice(name: str, released: float, ours: float) -> None:
    network = restorer(name)
    twice = 0  # the released attention multiplies queries by the same sum of keys for each channel of a head

    def add(module: TaylorAttention, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal twice
        _, channels, height, width = inputs[0].shape
        twice += height * width * channels * (channels // module.heads - 1)

    for module in network.modules():
        if isinstance(module, TaylorAttention):
            module.register_forward_hook(add)
    macs = count_macs(network, rule="dense")
    assert macs / 1e9 == pytest.approx(ours, abs=0.001)
    assert (macs + twice) / 1e9 == pytest.approx(released, rel=0.0005)


@pytest.mark.parametrize("size", [(8, 8), (16, 40)])
def test_any_multiple_of_eight_keeps_its_size(size: tuple[int, int]) -> None:
    network = small().eval()
    assert network.multiple == 8
    assert network(torch.rand(2, 3, *size)).shape == (2, 3, *size)


def test_every_parameter_learns() -> None:
    network = small(heads=(1, 2, 4, 8))
    # A path that is alone in its level is weighed by 1 whatever the squeeze says.
    for name, parameter in network.named_parameters():
        if "level2.aggregate" in name:
            parameter.requires_grad_(False)
    network(torch.rand(2, 3, 16, 16)).square().sum().backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("heads", [1, 2, 4, 8])
def test_attention_is_the_expansion_over_all_pairs(heads: int) -> None:
    torch.manual_seed(0)
    layer = TaylorAttention(16, heads, qk_norm=0.5).double()
    torch.nn.init.uniform_(layer.temperature, 0.5, 2.0)
    x = torch.randn(2, 16, 3, 4, dtype=torch.float64)
    q, k, v = (part.unflatten(1, (heads, -1)).flatten(3) for part in layer.qkv_dwconv(layer.qkv(x)).chunk(3, 1))
    q, k = (part / (part.norm(dim=2, keepdim=True) / 0.5 + 1e-6) for part in (q, k))
    weights = 1 + torch.einsum("bjdn,bjdm->bjnm", q, k)
    out = torch.einsum("bjnm,bjdm->bjdn", weights, v) / (weights.sum(3).unsqueeze(2) + 1e-6)
    gates, start = [], 0
    for conv in layer.refine:  # each head alone
        window = conv.kernel_size[0]
        for kernel, bias in zip(conv.weight, conv.bias, strict=True):
            pair = torch.cat([q[:, start], k[:, start]], 1).unflatten(2, (3, 4))
            gates.append(torch.nn.functional.conv2d(pair, kernel[None], bias[None], padding=window // 2))
            start += 1
    assert start == heads
    gate = torch.cat(gates, 1).sigmoid().flatten(2).unsqueeze(2)
    expected = layer.project_out((out * layer.temperature * gate).flatten(1, 2).unflatten(2, (3, 4)))
    torch.testing.assert_close(layer(x), expected)


def test_sums_over_a_large_picture_fit_into_half_precision() -> None:
    torch.manual_seed(0)
    layer = TaylorAttention(8, 1, qk_norm=0.5)
    x = torch.randn(1, 8, 256, 257)  # more pixels than the largest number of float16
    with torch.no_grad():
        torch.testing.assert_close(layer.half()(x.half()).float(), layer.float()(x), rtol=0.05, atol=2e-3)


def test_offsets_are_cut() -> None:
    torch.manual_seed(0)
    cut, free = DeformableEmbed(4, (-0.5, 0.5)), DeformableEmbed(4, None)
    free.load_state_dict(cut.state_dict())
    near, far = torch.rand(1, 4, 6, 6) / 1000, 50 * torch.rand(1, 4, 6, 6)
    assert torch.equal(cut(near), free(near))
    assert not torch.allclose(cut(far), free(far))


def test_paths_are_weighed_per_channel() -> None:
    torch.manual_seed(0)
    fusion = PathFusion(4, 3)
    maps = [torch.rand(2, 4, 5, 5) for _ in range(3)]
    squeezed = fusion.conv_du((maps[0] + maps[1] + maps[2]).mean((2, 3), keepdim=True))
    scores = torch.stack([fc(squeezed) for fc in fusion.fcs]).exp()
    expected = sum(x * score / scores.sum(0) for x, score in zip(maps, scores, strict=True))
    torch.testing.assert_close(fusion(maps), expected)


def test_published_names() -> None:
    names = {
        "patch_embed.proj.weight": "patch_embed.weight",
        "patch_embed_latent.patch_embeds.1.patch_conv.dcn.weight": "latent.embeds.1.dcn.weight",
        "patch_embed_encoder_level1.patch_embeds.0.patch_conv.offset_generator.1.weight": (
            "encoder_level1.embeds.0.offset_generator.1.weight"
        ),
        "refinement.mhca_blks.1.MHCA_layers.0.norm2.body.weight": "refinement.paths.1.0.norm2.weight",
        "latent.mhca_blks.0.MHCA_layers.3.attn.refine_att.conv_list.2.bias": "latent.paths.0.3.attn.refine.2.bias",
        "latent.aggregate.conv_du.1.weight": "latent.aggregate.conv_du.1.weight",
        "down1_2.body.0.weight": "down1_2.0.weight",
        "up4_3.body.1.weight": "up4_3.1.weight",
        "reduce_chan_level3.0.weight": "reduce_chan_level3.weight",
        "output.0.weight": "to_image.weight",
        "stranger": "stranger",
    }
    assert list(map_mb_taylorformer({name: torch.zeros(1) for name in names})) == list(names.values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depths": (1, 1, 1)}, r"depths needs four numbers, not \[1, 1, 1\]"),
        ({"dims": (8, 12, 16, 16)}, r"dims\[1\] = 2 dims\[0\]"),
        ({"heads": (1, 2, 3, 8)}, "1, 2, 4 or 8 heads"),
        ({"dims": (3, 6, 8, 8), "heads": (2, 2, 2, 2)}, "not 2 for 3"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**arguments)


def test_free_offsets_learn_too() -> None:
    learns(DeformableEmbed(4, None), torch.rand(1, 4, 6, 6))

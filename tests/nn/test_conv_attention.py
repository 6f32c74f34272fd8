"""The parts of the DehazeFormer line against their formulas: windows with reflected borders, norm, initial values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.conv_attention import (
    ConvAttention,
    ConvAttentionBlock,
    ReflectedWindowAttention,
    choose_attention,
    smallest_reflection,
)
from dehaze_bench.nn.initialisation import init_deep
from dehaze_bench.nn.norms import RescaleNorm


def attend_by_loops(attention: ReflectedWindowAttention, qkv: Tensor) -> Tensor:
    """Every token looks at the places of its window; a place outside of the map is the one that it mirrors."""
    _, channels, height, width = qkv.shape
    window, shift, heads = attention.window, attention.shift, attention.heads
    q, k, v = qkv[0].unflatten(0, (3, heads, -1))
    out = torch.zeros(heads, channels // 3 // heads, height, width)
    for row in range(height):
        for column in range(width):
            top, left = ((n + shift) // window * window - shift for n in (row, column))
            scores, values = [], []
            for i in range(top, top + window):
                for j in range(left, left + window):
                    y, x = mirror(i, height), mirror(j, width)
                    offset = torch.tensor([row - i, column - j], dtype=torch.float32)
                    bias = attention.meta(offset.sign() * torch.log(1 + offset.abs()))
                    scores.append((q[:, :, row, column] * k[:, :, y, x]).sum(1) / math.sqrt(q.shape[1]) + bias)
                    values.append(v[:, :, y, x])
            weights = torch.stack(scores).softmax(0)
            out[:, :, row, column] = (weights[..., None] * torch.stack(values)).sum(0)
    return out.flatten(0, 1)[None]


def mirror(place: int, size: int) -> int:
    return -place if place < 0 else 2 * (size - 1) - place if place >= size else place


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("size", [(8, 8), (5, 7), (9, 6)])
def test_windows_are_filled_by_reflection(shift: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    attention = ReflectedWindowAttention(dim=6, heads=2, window=4, shift=shift)
    qkv = torch.randn(1, 18, *size)
    torch.testing.assert_close(attention(qkv), attend_by_loops(attention, qkv), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [4, 8])
def test_the_smallest_map_can_be_reflected_and_a_smaller_one_not(window: int) -> None:
    size = smallest_reflection(window) + 1
    for shift in (0, window // 2):
        attention = ReflectedWindowAttention(dim=2, heads=1, window=window, shift=shift)
        assert attention(torch.randn(1, 6, size, size)).shape == (1, 2, size, size)
    with pytest.raises(RuntimeError, match="Padding size"):
        attention(torch.randn(1, 6, size - 1, size - 1))


def test_the_last_blocks_attend() -> None:
    assert choose_attention(4, 0.5) == [False, False, True, True]
    assert choose_attention(4, 0) == [False] * 4
    assert choose_attention(2, 1) == [True, True]
    assert choose_attention(8, 0.25).index(True) == 6
    with pytest.raises(UsageError, match=r"between 0 and 1, not 1\.5"):
        choose_attention(4, 1.5)


def test_attention_and_convolution_act_on_the_same_values() -> None:
    torch.manual_seed(0)
    layer = ConvAttention(4, 2, 4, 2, attends=True, convolution="depthwise", depth=1)
    x = torch.randn(1, 4, 8, 8)
    v = layer.v(x)
    assert layer.attn is not None and layer.qk is not None
    expected = layer.proj(layer.conv(v) + layer.attn(torch.cat([layer.qk(x), v], 1)))
    torch.testing.assert_close(layer(x), expected)
    alone = ConvAttention(4, 2, 4, 0, attends=False, convolution="full", depth=1)
    assert {name.split(".")[0] for name, _ in alone.named_parameters()} == {"conv"}
    torch.testing.assert_close(alone(x), alone.conv(x))


def test_the_block_gives_back_mean_and_deviation() -> None:
    torch.manual_seed(0)
    block = ConvAttentionBlock(4, 1, 4, 0, True, "depthwise", nn.Conv2d(4, 4, 1), depth=1)
    assert block.norm1 is not None
    nn.init.zeros_(block.norm1.meta1.bias)
    nn.init.zeros_(block.norm1.meta1.weight)  # no gain: what is left of the first half is the offset
    nn.init.zeros_(block.ffn.weight)
    x = 3 + 2 * torch.randn(2, 4, 8, 8)
    offset = block.norm1.meta2(x.mean((1, 2, 3))[:, None])
    torch.testing.assert_close(block(x), x + offset[..., None, None])


def test_rescale_norm_is_its_formula() -> None:
    torch.manual_seed(0)
    norm, x = RescaleNorm(5), 2 + 3 * torch.randn(2, 5, 6, 7)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    y, gain, offset = norm(x)
    mean = x.mean((1, 2, 3), keepdim=True)
    deviation = ((x - mean).square().mean((1, 2, 3), keepdim=True) + 1e-5).sqrt()
    weight, bias = norm.weight[:, None, None], norm.bias[:, None, None]
    torch.testing.assert_close(y, (x - mean) / deviation * weight + bias, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gain, deviation * norm.meta1.weight[..., None] + 1)
    torch.testing.assert_close(offset, mean * norm.meta2.weight[..., None])


def test_a_deep_network_starts_small() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 64, 3)
    init_deep(conv, 1 / 8)
    glorot = conv.weight.std().item()
    assert glorot == pytest.approx(math.sqrt(2 / (2 * 9 * 64)), rel=0.02)
    assert conv.bias is not None and conv.bias.abs().sum() == 0
    init_deep(conv, 2)
    assert conv.weight.std().item() == pytest.approx(glorot / 2, rel=0.02)


def test_queries_and_keys_start_by_the_plain_rule() -> None:
    torch.manual_seed(0)
    layer = ConvAttention(48, 4, 8, 0, attends=True, convolution="depthwise", depth=512)
    assert layer.qk is not None
    assert layer.qk.weight.std().item() == pytest.approx(math.sqrt(2 / (3 * 48)), rel=0.05)
    assert layer.proj.weight.std().item() == pytest.approx(math.sqrt(2 / (2 * 48)) / 8, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"heads": 3}, "4 channels cannot have 3 heads"), ({"convolution": "dephtwise"}, "Did you mean 'depthwise'")],
)
def test_bad_arguments(arguments: dict[str, object], words: str) -> None:
    given = {"heads": 2, "convolution": "depthwise", **arguments}
    with pytest.raises(UsageError, match=words):
        ConvAttention(4, window=4, shift=0, attends=True, depth=1, **given)  # type: ignore[arg-type]

"""The block of DehazeFormer: attention in reflected windows beside a convolution, a norm that gives back the scale.

Song et al., "Vision Transformers for Single Image Dehazing", TIP 2023, arXiv 2204.03883; ED-Former takes it
with another feed-forward layer.

Shape legend: B batch, C channels, H and W size, M windows, W window length (w * w tokens), N heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.initialisation import init_deep
from dehaze_bench.nn.norms import RescaleNorm
from dehaze_bench.nn.reflected import depthwise_conv, reflected_conv
from dehaze_bench.nn.windows import cut_windows, join_windows

CONVOLUTIONS = ("depthwise", "full")


def choose_attention(depth: int, share: float) -> list[bool]:
    """Return which blocks of a stage attend: the last ones, `share` of them."""
    if not 0 <= share <= 1:
        raise UsageError(f"The share of blocks with attention is between 0 and 1, not {share}")
    return [i >= depth - share * depth for i in range(depth)]


def smallest_reflection(window: int) -> int:
    """Return how many tokens a map must exceed to be reflected to whole windows, shifted by half a window or not."""
    return window - 2 if window >= 6 else window - 1


class ConvAttentionBlock(nn.Module):
    """Attention and convolution, then `ffn`, both residual; the norm stands before the first where it attends.

    `depth` is the number of blocks of the network, which scales the initial weights.
    """

    def __init__(
        self, dim: int, heads: int, window: int, shift: int, attends: bool, convolution: str, ffn: nn.Module, depth: int
    ) -> None:
        super().__init__()
        self.norm1 = RescaleNorm(dim) if attends else None
        self.attn = ConvAttention(dim, heads, window, shift, attends, convolution, depth)
        self.ffn = ffn
        init_deep(self.ffn, depth)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.norm1 is None:
            x_BCHW = x_BCHW + self.attn(x_BCHW)
        else:
            y_BCHW, gain_BC11, offset_BC11 = self.norm1(x_BCHW)
            x_BCHW = x_BCHW + self.attn(y_BCHW) * gain_BC11 + offset_BC11
        return x_BCHW + self.ffn(x_BCHW)


class ConvAttention(nn.Module):
    """proj(conv(V) + attention(Q, K, V)), or proj(conv(V)) without attention.

    `convolution` is "depthwise" (5x5), or "full": two 3x3 convolutions, which without attention stand alone.
    """

    def __init__(
        self, dim: int, heads: int, window: int, shift: int, attends: bool, convolution: str, depth: int
    ) -> None:
        super().__init__()
        if convolution not in CONVOLUTIONS:
            raise UsageError(
                f"Unknown convolution '{convolution}' beside attention. {nearest(convolution, CONVOLUTIONS)}"
            )
        alone = convolution == "full" and not attends
        self.v, self.proj = (nn.Identity() if alone else nn.Conv2d(dim, dim, 1) for _ in range(2))
        self.conv = depthwise_conv(dim, 5) if convolution == "depthwise" else _two_convs(dim)
        self.qk = nn.Conv2d(dim, 2 * dim, 1) if attends else None
        self.attn = ReflectedWindowAttention(dim, heads, window, shift) if attends else None
        init_deep(self, depth)
        if self.qk is not None:
            init_deep(self.qk, 1 / 8)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        v_BCHW = self.v(x_BCHW)
        y_BCHW = self.conv(v_BCHW)
        if self.qk is not None and self.attn is not None:
            y_BCHW = y_BCHW + self.attn(torch.cat([self.qk(x_BCHW), v_BCHW], dim=1))
        return self.proj(y_BCHW)


class ReflectedWindowAttention(nn.Module):
    """Attention of given queries, keys and values (B, 3 C, H, W) inside windows; (B, C, H, W) comes out.

    Windows start `shift` tokens outside of the map, which is reflected to fill them: no mask is needed and the border
    has full windows. The bias is an MLP of sign(d) log(1 + |d|) for an offset d = (rows, columns).
    """

    offset_WW2: Tensor

    def __init__(self, dim: int, heads: int, window: int, shift: int, hidden: int = 256) -> None:
        super().__init__()
        if dim % heads:
            raise UsageError(
                f"Attention over {dim} channels cannot have {heads} heads: the channels must divide evenly"
            )
        self.heads, self.window, self.shift = heads, window, shift
        self.meta = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, heads))
        place = torch.arange(window)
        place_W2 = torch.stack(torch.meshgrid(place, place, indexing="ij"), dim=-1).flatten(0, 1)
        offset_WW2 = place_W2[:, None] - place_W2
        self.register_buffer("offset_WW2", offset_WW2.sign() * offset_WW2.abs().float().log1p(), persistent=False)

    def forward(self, qkv_BCHW: Tensor) -> Tensor:
        height, width = qkv_BCHW.shape[-2:]
        before = self.shift
        below, right = (-(n + before) % self.window for n in (height, width))
        filled_BCHW = F.pad(qkv_BCHW, (before, right, before, below), mode="reflect")
        windows_MWC = cut_windows(filled_BCHW.permute(0, 2, 3, 1), self.window)
        q, k, v = windows_MWC.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias_NWW = self.meta(self.offset_WW2).permute(2, 0, 1)
        y_MWC = F.scaled_dot_product_attention(q, k, v, attn_mask=bias_NWW[None].to(q.dtype)).transpose(1, 2).flatten(2)
        y_BHWC = join_windows(y_MWC, self.window, (filled_BCHW.shape[2], filled_BCHW.shape[3]))
        return y_BHWC[:, before : before + height, before : before + width].permute(0, 3, 1, 2)


def conv_attention_stages(
    dims: Sequence[int],
    depths: Sequence[int],
    heads: Sequence[int],
    attention: Sequence[float],
    convolutions: Sequence[str],
    window: int,
    ratios: Sequence[float],
    make_ffn: Callable[[int, int], nn.Module],
) -> list[nn.Module]:
    """Return the stages of a network: of `depths` blocks each, every second of which shifts its windows by half.

    `attention` is the share of blocks that attend; `make_ffn(dim, hidden)` makes a layer `ratios` times as wide.
    """
    stages: list[nn.Module] = []
    for stage, dim in enumerate([*dims, *reversed(dims[:-1])]):
        attends = choose_attention(depths[stage], attention[stage])
        blocks = [
            ConvAttentionBlock(
                *(dim, heads[stage], window, window // 2 if i % 2 else 0, attends[i], convolutions[stage]),
                make_ffn(dim, int(dim * ratios[stage])),
                sum(depths),
            )
            for i in range(depths[stage])
        ]
        stages.append(nn.Sequential(*blocks))
    return stages


def _two_convs(dim: int) -> nn.Sequential:
    return nn.Sequential(reflected_conv(dim, dim, 3), nn.ReLU(), reflected_conv(dim, dim, 3))

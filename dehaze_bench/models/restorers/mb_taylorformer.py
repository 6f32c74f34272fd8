"""MB-TaylorFormer: linear attention from the Taylor expansion of softmax, on paths of growing deformable reach.

Qiu, Zhang, Wang, Luo, Li, Jin, "MB-TaylorFormer: Multi-branch Efficient Transformer Expanded by Taylor Formula for
Image Dehazing", ICCV 2023, arXiv 2308.14036.

| size | blocks       | paths        | parameters | MACs at 256 x 256 | as released |
|------|--------------|--------------|------------|-------------------|-------------|
| B    | [2, 3, 3, 4] | [2, 2, 2, 2] | 2,676,520  | 35.35 G           | 36.97 G     |
| L    | [4, 6, 6, 8] | [2, 3, 3, 3] | 7,432,472  | 80.11 G           | 83.62 G     |

As released: the norms have no bias and the feed-forward layers one width, whatever the options say, and the refinement
has as many blocks as the first level. Deviations: the denominator of the attention, which is the same for all channels
of a head, is computed once and not per channel, which is what MACs differ by; deformable convolutions are sampled with
torch's `grid_sample`.

Shape legend: B batch, C channels, H and W size, N = H*W pixels, J heads, D = C / J channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.gated_ffn import GatedDepthwiseFFN
from dehaze_bench.nn.norms import BiasFreeNorm2d
from dehaze_bench.nn.sampling import DeformableDepthwise

# Number of heads -> the windows of the convolutions that refine its attention, and how many heads each serves.
WINDOWS = {1: {3: 1}, 2: {3: 2}, 4: {3: 2, 5: 2}, 8: {3: 2, 5: 3, 7: 3}}
EPSILON = 1e-6


class MBTaylorFormer(nn.Module):
    """Four levels of `dims` channels with pixel (un)shuffles between them; the residual is added to the input.

    `depths`, `heads` and `paths` are per level, down and up; the last level of the decoder and the refinement have
    dims[1] = 2 dims[0] channels. Queries and keys have the length `qk_norm`; offsets of deformable taps are cut to
    `offset_clamp`, or free where it is None.
    """

    multiple = 8
    output_range = "residual added to the input, not clamped"

    def __init__(
        self,
        dims: Sequence[int] = (24, 48, 72, 96),
        depths: Sequence[int] = (2, 3, 3, 4),
        heads: Sequence[int] = (1, 2, 4, 8),
        paths: Sequence[int] = (2, 2, 2, 2),
        qk_norm: float = 0.5,
        offset_clamp: tuple[float, float] | None = (-3.0, 3.0),
    ) -> None:
        super().__init__()
        for name, values in (("dims", dims), ("depths", depths), ("heads", heads), ("paths", paths)):
            if len(values) != 4:
                raise UsageError(f"MB-TaylorFormer has four levels: {name} needs four numbers, not {list(values)}")
        if dims[1] != 2 * dims[0]:
            raise UsageError(f"MB-TaylorFormer needs dims[1] = 2 dims[0], as in [24, 48, 72, 96], not {list(dims)}")

        def make(level: int, dim: int) -> Level:
            return Level(dim, depths[level], heads[level], paths[level], qk_norm, offset_clamp)

        self.patch_embed = nn.Conv2d(3, dims[0], 3, padding=1, bias=False)
        self.encoder_level1 = make(0, dims[0])
        self.down1_2 = _resize(dims[0], dims[1] // 4, nn.PixelUnshuffle(2))
        self.encoder_level2 = make(1, dims[1])
        self.down2_3 = _resize(dims[1], dims[2] // 4, nn.PixelUnshuffle(2))
        self.encoder_level3 = make(2, dims[2])
        self.down3_4 = _resize(dims[2], dims[3] // 4, nn.PixelUnshuffle(2))
        self.latent = make(3, dims[3])
        self.up4_3 = _resize(dims[3], dims[2] * 4, nn.PixelShuffle(2))
        self.reduce_chan_level3 = nn.Conv2d(2 * dims[2], dims[2], 1, bias=False)
        self.decoder_level3 = make(2, dims[2])
        self.up3_2 = _resize(dims[2], dims[1] * 4, nn.PixelShuffle(2))
        self.reduce_chan_level2 = nn.Conv2d(2 * dims[1], dims[1], 1, bias=False)
        self.decoder_level2 = make(1, dims[1])
        self.up2_1 = _resize(dims[1], dims[0] * 4, nn.PixelShuffle(2))
        self.decoder_level1 = make(0, dims[1])
        self.refinement = make(0, dims[1])
        self.to_image = nn.Conv2d(dims[1], 3, 3, padding=1, bias=False)

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        skip1 = self.encoder_level1(self.patch_embed(hazy_BCHW))
        skip2 = self.encoder_level2(self.down1_2(skip1))
        skip3 = self.encoder_level3(self.down2_3(skip2))
        x_BCHW = self.latent(self.down3_4(skip3))
        x_BCHW = self.decoder_level3(self.reduce_chan_level3(torch.cat([self.up4_3(x_BCHW), skip3], 1)))
        x_BCHW = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(x_BCHW), skip2], 1)))
        x_BCHW = self.decoder_level1(torch.cat([self.up2_1(x_BCHW), skip1], 1))
        return self.to_image(self.refinement(x_BCHW)) + hazy_BCHW


class Level(nn.Module):
    """Paths of attention blocks, each behind one more deformable embedding, weighed into one map; residual."""

    def __init__(
        self, dim: int, depth: int, heads: int, paths: int, qk_norm: float, offset_clamp: tuple[float, float] | None
    ) -> None:
        super().__init__()
        self.embeds = nn.ModuleList(DeformableEmbed(dim, offset_clamp) for _ in range(paths))
        self.paths = nn.ModuleList(
            nn.Sequential(*(Block(dim, heads, qk_norm) for _ in range(depth))) for _ in range(paths)
        )
        self.aggregate = PathFusion(dim, paths)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        embedded, outputs = x_BCHW, []
        for embed, path in zip(self.embeds, self.paths, strict=True):
            embedded = embed(embedded)
            outputs.append(path(embedded))
        return self.aggregate(outputs) + x_BCHW


class DeformableEmbed(nn.Module):
    """Depthwise 3x3 convolution with moving taps, pointwise convolution, Hardswish."""

    def __init__(self, dim: int, offset_clamp: tuple[float, float] | None) -> None:
        super().__init__()
        self.offset_clamp = offset_clamp
        self.offset_generator = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False), nn.Conv2d(dim, 18, 1, bias=False)
        )
        self.dcn = DeformableDepthwise(dim, 3)
        self.pwconv = nn.Conv2d(dim, dim, 1, bias=False)
        self.act = nn.Hardswish()
        for conv in (*self.offset_generator, self.pwconv):
            nn.init.normal_(conv.weight, std=math.sqrt(2 / (conv.kernel_size[0] ** 2 * conv.out_channels)))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        offset_BKHW = self.offset_generator(x_BCHW)
        if self.offset_clamp is not None:
            offset_BKHW = offset_BKHW.clamp(*self.offset_clamp)
        return self.act(self.pwconv(self.dcn(x_BCHW, offset_BKHW)))


class Block(nn.Module):
    """Taylor attention and gated feed-forward layer, both normalised before and residual."""

    def __init__(self, dim: int, heads: int, qk_norm: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = BiasFreeNorm2d(dim), BiasFreeNorm2d(dim)
        self.attn = TaylorAttention(dim, heads, qk_norm)
        self.ffn = GatedDepthwiseFFN(dim, 2.66)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = x_BCHW + self.attn(self.norm1(x_BCHW))
        return x_BCHW + self.ffn(self.norm2(x_BCHW))


class TaylorAttention(nn.Module):
    """Attention with weights 1 + q k instead of exp(q k), in linear time, times a gate that refines it by locality.

    Published equations 5 to 8: the sums over all keys are made once; convolutions over queries and keys, with windows
    that grow with the head, give one gate per pixel and head.
    """

    def __init__(self, dim: int, heads: int, qk_norm: float) -> None:
        super().__init__()
        if heads not in WINDOWS or dim % heads:
            raise UsageError(f"MB-TaylorFormer has 1, 2, 4 or 8 heads that divide its channels, not {heads} for {dim}")
        self.heads, self.qk_norm = heads, qk_norm
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=False)
        self.refine = nn.ModuleList(
            nn.Conv2d(2 * num * dim // heads, num, window, padding=window // 2, groups=num)
            for window, num in WINDOWS[heads].items()
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        size = x_BCHW.shape[-2:]
        q_BJDN, k_BJDN, v_BJDN = (
            part.unflatten(1, (self.heads, -1)).flatten(3) for part in self.qkv_dwconv(self.qkv(x_BCHW)).chunk(3, dim=1)
        )
        q_BJDN, k_BJDN = self._scale(q_BJDN), self._scale(k_BJDN)
        # Numerator and denominator are divided by the number of pixels, so that half precision holds the sums.
        share = size.numel() ** -0.5
        context_BJDD = (share * v_BJDN) @ (share * k_BJDN).transpose(2, 3)
        total_BJDN = v_BJDN.mean(3, keepdim=True) + context_BJDD @ q_BJDN
        weight_BJ1N = 1 + k_BJDN.mean(3).unsqueeze(2) @ q_BJDN + EPSILON / size.numel()
        both_BCHW = torch.cat([q_BJDN, k_BJDN], dim=2).flatten(1, 2).unflatten(2, size)
        parts = both_BCHW.split([conv.in_channels for conv in self.refine], dim=1)
        gate_BJHW = torch.sigmoid(torch.cat([conv(part) for conv, part in zip(self.refine, parts, strict=True)], 1))
        out_BJDN = total_BJDN / weight_BJ1N * self.temperature * gate_BJHW.flatten(2).unsqueeze(2)
        return self.project_out(out_BJDN.flatten(1, 2).unflatten(2, size))

    def _scale(self, x_BJDN: Tensor) -> Tensor:
        return x_BJDN / (x_BJDN.norm(dim=2, keepdim=True) / self.qk_norm + EPSILON)


class PathFusion(nn.Module):
    """Sum of the paths, weighed per channel by a softmax over them, from the mean of their sum (SKFF of MIRNet)."""

    def __init__(self, dim: int, paths: int) -> None:
        super().__init__()
        hidden = max(dim // 8, 4)
        self.conv_du = nn.Sequential(nn.Conv2d(dim, hidden, 1, bias=False), nn.PReLU())
        self.fcs = nn.ModuleList(nn.Conv2d(hidden, dim, 1, bias=False) for _ in range(paths))

    def forward(self, maps: list[Tensor]) -> Tensor:
        stacked = torch.stack(maps)
        squeezed = self.conv_du(stacked.sum(0).mean(dim=(2, 3), keepdim=True))
        weights = torch.softmax(torch.stack([fc(squeezed) for fc in self.fcs]), dim=0)
        return (stacked * weights).sum(0)


def _resize(dim: int, out: int, shuffle: nn.Module) -> nn.Sequential:
    """Depthwise 3x3 and pointwise convolution to `out` channels, then the shuffle."""
    return nn.Sequential(
        nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False), nn.Conv2d(dim, out, 1, bias=False), shuffle
    )

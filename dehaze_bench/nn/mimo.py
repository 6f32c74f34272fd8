"""The skeleton of MIMO-UNet: three scales, an image in and an image out at each.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError

MakeLevel = Callable[[int, int], nn.Module]
MakeActivation = Callable[[], nn.Module]


class ThreeScales(nn.Module):
    """Encoder and decoder of three levels; the hazy image enters at full, half and quarter size, and leaves restored.

    Cho et al., MIMO-UNet (ICCV 2021, arXiv 2108.05054), in the form that SFNet, FSNet, OKNet, IRNeXt, ConvIR and
    CasDyF-Net share. `make_level(level, dim)` returns the blocks of a level: 0, 1 and 2 on base, 2 base and 4 base
    channels, once for the encoder and once for the decoder; `bottleneck` is what stands between the two. The smaller
    inputs are every second and every fourth pixel (interpolation to the nearest); each output is added to the input of
    its size. `forward` returns the full-size image in evaluation and all three, largest first, in training.
    """

    multiple: int = 4
    output_range: str = "residual added to the input, not clamped"

    def __init__(
        self,
        make_level: MakeLevel,
        base: int = 32,
        activation: MakeActivation = nn.GELU,
        bottleneck: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if base < 2 or base % 2:
            raise UsageError(f"base={base} cannot be halved for the small images: use an even number, for example 32.")
        dims = base, 2 * base, 4 * base
        self.feat_extract = nn.ModuleList(
            [
                ConvAct(3, dims[0], 3, activation),
                ConvAct(dims[0], dims[1], 3, activation, stride=2),
                ConvAct(dims[1], dims[2], 3, activation, stride=2),
                ConvAct(dims[2], dims[1], 4, activation, stride=2, transposed=True),
                ConvAct(dims[1], dims[0], 4, activation, stride=2, transposed=True),
                ConvAct(dims[0], 3, 3),
            ]
        )
        self.scm2, self.fam2 = shallow_features(dims[1], activation), Join(dims[1])
        self.scm1, self.fam1 = shallow_features(dims[2], activation), Join(dims[2])
        self.encoder = nn.ModuleList([make_level(level, dims[level]) for level in (0, 1, 2)])
        self.bottleneck = bottleneck or nn.Identity()
        self.decoder = nn.ModuleList([make_level(level, dims[level]) for level in (2, 1, 0)])
        self.convs = nn.ModuleList([ConvAct(dims[2], dims[1], 1, activation), ConvAct(dims[1], dims[0], 1, activation)])
        self.convs_out = nn.ModuleList([ConvAct(dims[2], 3, 3), ConvAct(dims[1], 3, 3)])

    def forward(self, hazy_BCHW: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        half, quarter = hazy_BCHW[..., ::2, ::2], hazy_BCHW[..., ::4, ::4]
        skip1 = self.encoder[0](self.feat_extract[0](hazy_BCHW))
        skip2 = self.encoder[1](self.fam2(self.feat_extract[1](skip1), self.scm2(half)))
        x_BCHW = self.encoder[2](self.fam1(self.feat_extract[2](skip2), self.scm1(quarter)))
        x_BCHW = self.decoder[0](self.bottleneck(x_BCHW))
        quarter = self.convs_out[0](x_BCHW) + quarter
        x_BCHW = self.decoder[1](self.convs[0](torch.cat((self.feat_extract[3](x_BCHW), skip2), dim=1)))
        half = self.convs_out[1](x_BCHW) + half
        x_BCHW = self.decoder[2](self.convs[1](torch.cat((self.feat_extract[4](x_BCHW), skip1), dim=1)))
        full = self.feat_extract[5](x_BCHW) + hazy_BCHW
        return (full, half, quarter) if self.training else full


def chain(num_res: int, make_block: Callable[[bool], nn.Module]) -> nn.Sequential:
    """Return a level of `num_res` blocks in a row; `make_block` is told whether its block is the last."""
    if num_res < 1:
        raise UsageError(f"num_res={num_res} leaves a level without blocks: use 1 or more.")
    return nn.Sequential(*(make_block(i == num_res - 1) for i in range(num_res)))


class ConvAct(nn.Module):
    """A convolution that keeps the size, divides it by `stride` or multiplies it (transposed), and an activation."""

    def __init__(
        self,
        in_dim: int,
        dim: int,
        kernel: int,
        activation: MakeActivation = nn.Identity,
        stride: int = 1,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self.conv: nn.Module
        if transposed:
            self.conv = nn.ConvTranspose2d(in_dim, dim, kernel, stride, padding=kernel // 2 - 1)
        else:
            self.conv = nn.Conv2d(in_dim, dim, kernel, stride, padding=kernel // 2)
        self.act = activation()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.act(self.conv(x_BCHW))


class ConvBlock(nn.Module):
    """x + conv(middle(gelu(conv(x)))), both convolutions 3x3: the block of OKNet, IRNeXt and ConvIR."""

    def __init__(self, dim: int, *middle: nn.Module) -> None:
        super().__init__()
        self.main = nn.Sequential(ConvAct(dim, dim, 3, nn.GELU), *middle, ConvAct(dim, dim, 3))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.main(x_BCHW) + x_BCHW


class Join(nn.Module):
    """Join features with those of a smaller image (FAM): concatenation and a 3x3 convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.merge = ConvAct(2 * dim, dim, 3)

    def forward(self, x_BCHW: Tensor, image_BCHW: Tensor) -> Tensor:
        return self.merge(torch.cat((x_BCHW, image_BCHW), dim=1))


def shallow_features(dim: int, activation: MakeActivation) -> nn.Sequential:
    """Return the layers that make `dim` features of a smaller image (SCM)."""
    return nn.Sequential(
        ConvAct(3, dim // 4, 3, activation),
        ConvAct(dim // 4, dim // 2, 1, activation),
        ConvAct(dim // 2, dim // 2, 3, activation),
        ConvAct(dim // 2, dim, 1),
        nn.InstanceNorm2d(dim, affine=True),
    )

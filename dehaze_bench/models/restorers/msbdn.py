"""MSBDN: Multi-Scale Boosted Dehazing Network with dense feature fusion.

Dong, Pan, Xiang, Hu, Zhang, Wang, Yang, CVPR 2020, arXiv 2004.13388. A U-Net of five scales whose decoder strengthens,
operates and subtracts (equation 4), and whose features at every scale are corrected by back-projection against those of
all scales before (section 3.3, "DFF"). The repository's later "RDFF" corrects one half of the channels and sends the
other half through a residual dense block.

| variant | parameters | MACs at 256 x 256 |
|---------|------------|-------------------|
| DFF     | 31,353,061 | 24.43 G           |
| RDFF    | 28.71 M    | 19.57 G           |

Follows BookerDeWitt/MSBDN-DFF. Deviations: none in what is computed. H and W are padded to multiples of 16, which
the published forward pass needs and does not see to; a picture has at least 32 pixels per side, since the reflection at
the coarsest scale needs two.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.dense import ResidualDenseBlock

FUSIONS = ("dff", "rdff")
WIDTHS = (16, 32, 64, 128, 256)
BLOCKS = 3  # residual blocks of a scale
DENSE_LAYERS = 4


class MSBDN(nn.Module):
    """Restores images in [0, 1]; `fusion` is "dff" or "rdff", `res_blocks` counts those of the coarsest scale."""

    multiple = 16
    output_range = "[0, 1], not clamped"

    def __init__(self, fusion: str = "dff", res_blocks: int = 18) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise UsageError(f"MSBDN has no fusion '{fusion}'. {nearest(fusion, FUSIONS)}")
        if res_blocks < 0:
            raise UsageError(f"MSBDN cannot have res_blocks={res_blocks}: use 0 or more")
        relaxed, scales = fusion == "rdff", range(1, len(WIDTHS))
        self.halved = relaxed
        self.conv_input = _conv(3, WIDTHS[0], 11)
        self.dense = nn.ModuleList(_blocks(width, BLOCKS) for width in WIDTHS[:-1])
        self.downs = nn.ModuleList(_conv(WIDTHS[i - 1], WIDTHS[i], 3, stride=2) for i in scales)
        self.fusions = nn.ModuleList(Fusion(WIDTHS[i], i, True, relaxed) for i in scales)
        self.dehaze = _blocks(WIDTHS[-1], res_blocks)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(WIDTHS[-i], WIDTHS[-i - 1], 3, stride=2) for i in scales)
        self.up_dense = nn.ModuleList(_blocks(WIDTHS[-i - 1], BLOCKS) for i in scales)
        self.up_fusions = nn.ModuleList(Fusion(WIDTHS[-i - 1], i, False, relaxed) for i in scales)
        self.conv_output = _conv(WIDTHS[0], 3, 3)

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        if min(hazy_BCHW.shape[2:]) < 2 * self.multiple or any(n % self.multiple for n in hazy_BCHW.shape[2:]):
            raise UsageError(
                f"MSBDN takes images with sides in multiples of {self.multiple} from {2 * self.multiple} on, not "
                f"{tuple(hazy_BCHW.shape[2:])}"
            )
        x = self.conv_input(hazy_BCHW)
        memory, skips = [self._keep(x)], []
        for dense, down, fusion in zip(self.dense, self.downs, self.fusions, strict=True):
            skips.append(dense(x) + x)
            x = fusion(down(skips[-1]), memory)
            memory.append(self._keep(x))
        x = self.dehaze(2 * x) + x  # strengthen, operate, subtract, with the features as their own skip
        memory = [self._keep(x)]
        for up, dense, fusion in zip(self.ups, self.up_dense, self.up_fusions, strict=True):
            skip = skips.pop()
            x = F.interpolate(up(x), size=skip.shape[2:], mode="bilinear")
            strong = x + skip
            x = fusion(dense(strong) + strong - x, memory)
            memory.append(self._keep(x))
        return self.conv_output(x)

    def _keep(self, x_BCHW: Tensor) -> Tensor:
        """Return what later scales are corrected against."""
        return x_BCHW.chunk(2, dim=1)[0] if self.halved else x_BCHW


class Fusion(nn.Module):
    """Correct features by those of `number` other scales, farthest first, by back-projection.

    For each: project there step by step, subtract what is known there, project the error back and add it (equation 6).
    `finer` says whether the other scales have more pixels (encoder) or fewer (decoder). Steps change the width by two
    and are shared by all scales beyond. `relaxed` does so with the first half of the channels alone.
    """

    def __init__(self, width: int, number: int, finer: bool, relaxed: bool) -> None:
        super().__init__()
        width = width // 2 if relaxed else width
        self.finer = finer
        near = [width // 2**i if finer else width * 2**i for i in range(number)]
        far = [n // 2 if finer else 2 * n for n in near]
        steps = list(zip(near, far, strict=True))
        self.up_convs = nn.ModuleList(_step("deconv", *(step if finer else step[::-1])) for step in steps)
        self.down_convs = nn.ModuleList(_step("conv", *(step[::-1] if finer else step)) for step in steps)
        self.rest = ResidualDenseBlock(width, DENSE_LAYERS, width, bias=False) if relaxed else None

    def forward(self, x_BCHW: Tensor, memory: list[Tensor]) -> Tensor:
        """Return the corrected features; `memory` holds those of the other scales, farthest first."""
        if self.rest is None:
            return self._correct(x_BCHW, memory)
        x_BCHW, rest_BCHW = x_BCHW.chunk(2, dim=1)
        return torch.cat([self._correct(x_BCHW, memory), self.rest(rest_BCHW)], dim=1)

    def _correct(self, x_BCHW: Tensor, memory: list[Tensor]) -> Tensor:
        there, back = (self.up_convs, self.down_convs) if self.finer else (self.down_convs, self.up_convs)
        for skipped, known in enumerate(memory):
            distance = len(memory) - skipped
            error = x_BCHW
            for step in there[:distance]:
                error = step(error)
            error = error - known
            for step in reversed(back[:distance]):
                error = step(error)
            x_BCHW = x_BCHW + error
        return x_BCHW


class ResidualBlock(nn.Module):
    """x + 0.1 conv(prelu(conv(x))) with reflected borders."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _conv(width, width, 3)
        self.conv2 = _conv(width, width, 3)
        self.relu = nn.PReLU()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + 0.1 * self.conv2(self.relu(self.conv1(x_BCHW)))


def _blocks(width: int, number: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(number)))


def _conv(dim: int, out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(dim, out, kernel, stride, padding=kernel // 2, padding_mode="reflect")


def _step(kind: str, dim: int, out: int) -> nn.Sequential:
    """Twice ("deconv") or half ("conv") the resolution by a 4x4 kernel, then a PReLU with one slope."""
    layer: nn.Module = nn.ConvTranspose2d(dim, out, 4, 2, 1) if kind == "deconv" else nn.Conv2d(dim, out, 4, 2, 1)
    return nn.Sequential(OrderedDict([(kind, layer), ("act", nn.PReLU())]))

"""The frame of VMamba and its descendants: stem, stages of blocks with downsampling between, classifier.

Shape legend: B batch, H and W size or grid, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.drop import DropPath, drop_rates
from dehaze_bench.nn.initialisation import init_linear
from dehaze_bench.nn.patch import PatchMerging

STEMS = ("patch", "conv")
DOWNSAMPLINGS = ("merge", "conv2", "conv3")
STRIDE = 4
# block(stage, width, number, drop): `number` counts the blocks of the network, `drop` is the rate of drop path.
MakeBlock = Callable[[int, int, int, float], nn.Module]


class Hierarchy(nn.Module):
    """A backbone of several resolutions, channels-last inside, each stage at half the resolution of the one before.

    `dims` is the width of the first stage, doubled at every step, or the widths of all. `stem` is "patch" (4x4,
    stride 4) or "conv" (two overlapping 3x3, stride 2), `down` "merge" (patch merging), "conv2" or "conv3" (that
    kernel, at stride 2); both end in a norm. Images of any size go through: what is odd is filled with zeros by
    "conv", "merge" and "conv3", and cut by "patch" and "conv2", as published.

    `features` are the stages before their downsampling, each normalised over channels: the last by the norm of the
    classifier, the others without gain and bias (the published detection backbones train norms of their own there).
    """

    def __init__(
        self,
        block: MakeBlock,
        depths: Sequence[int],
        dims: int | Sequence[int],
        stem: str = "patch",
        down: str = "merge",
        drop_path: float = 0.0,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        for key, value, known in (("stem", stem, STEMS), ("down", down, DOWNSAMPLINGS)):
            if value not in known:
                raise UsageError(f"{type(self).__name__}: unknown {key} '{value}'. {nearest(value, known)}")
        widths = [dims * 2**i for i in range(len(depths))] if isinstance(dims, int) else list(dims)
        if not depths or len(widths) != len(depths):
            raise UsageError(
                f"{type(self).__name__} needs a width for every stage: depths={list(depths)} and dims={widths} differ"
            )
        self.widths, self.multiple = tuple(widths), STRIDE
        self.strides = tuple(STRIDE * 2**i for i in range(len(depths)))
        self.patch_embed = _stem(stem, widths[0])
        rates = drop_rates(drop_path, sum(depths))
        self.layers = nn.ModuleList()
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            start = sum(depths[:stage])
            blocks = [block(stage, width, number, rates[number]) for number in range(start, start + depth)]
            last = stage == len(depths) - 1
            self.layers.append(Stage(blocks, nn.Identity() if last else _downsampling(down, width, widths[stage + 1])))
        self.classifier = nn.ModuleDict({"norm": nn.LayerNorm(widths[-1])})
        if num_classes:
            self.classifier["head"] = nn.Linear(widths[-1], num_classes)
        self.apply(init_linear)

    def features(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return maps (B, C_i, H / s_i, W / s_i), finest first, sizes rounded up."""
        *finer, last = self._stages(image_BCHW)
        normalised = [F.layer_norm(x_BHWC, x_BHWC.shape[-1:]) for x_BHWC in finer]
        return [x_BHWC.permute(0, 3, 1, 2) for x_BHWC in (*normalised, self.classifier["norm"](last))]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        x_BC = self.classifier["norm"](self._stages(image_BCHW)[-1]).mean(dim=(1, 2))
        return self.classifier["head"](x_BC) if "head" in self.classifier else x_BC

    def _stages(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return what each stage makes, before its downsampling."""
        x_BHWC = self.patch_embed(image_BCHW)
        found = []
        for layer in self.layers:
            before_BHWC, x_BHWC = layer(x_BHWC)
            found.append(before_BHWC)
        return found


class Stage(nn.Module):
    """Blocks, then downsampling; returns what it was before and after it, channels-last."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample

    def forward(self, x_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        x_BHWC = self.blocks(x_BHWC)
        return x_BHWC, self.downsample(x_BHWC)


class VSSBlock(nn.Module):
    """x + op(norm(x)), then, where there is a feed-forward layer, x + ffn(norm2(x)); (B, H, W, C).

    `post_norm` normalises what the feed-forward layer returns instead of what it is given (MSVMamba's second release).
    """

    def __init__(
        self, dim: int, op: nn.Module, ffn: nn.Module | None = None, drop: float = 0.0, post_norm: bool = False
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.op = op
        self.ffn = ffn
        self.norm2 = None if ffn is None else nn.LayerNorm(dim)
        self.drop_path = DropPath(drop)
        self.post_norm = post_norm

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x_BHWC = x_BHWC + self.drop_path(self.op(self.norm(x_BHWC)))
        if self.ffn is None or self.norm2 is None:
            return x_BHWC
        if self.post_norm:
            return x_BHWC + self.drop_path(self.norm2(self.ffn(x_BHWC)))
        return x_BHWC + self.drop_path(self.ffn(self.norm2(x_BHWC)))


class Permute(nn.Module):
    """Change the order of axes inside an `nn.Sequential`."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.axes)


TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def _stem(kind: str, dim: int) -> nn.Sequential:
    if kind == "patch":
        return nn.Sequential(nn.Conv2d(3, dim, STRIDE, STRIDE), Permute(*TO_LAST), nn.LayerNorm(dim))
    half = dim // 2
    first = (nn.Conv2d(3, half, 3, 2, 1), Permute(*TO_LAST), nn.LayerNorm(half), Permute(*TO_FIRST), nn.GELU())
    return nn.Sequential(*first, nn.Conv2d(half, dim, 3, 2, 1), Permute(*TO_LAST), nn.LayerNorm(dim))


def _downsampling(kind: str, dim: int, out: int) -> nn.Module:
    if kind == "merge":
        return PatchMerging(dim, out)
    conv = nn.Conv2d(dim, out, 2, 2) if kind == "conv2" else nn.Conv2d(dim, out, 3, 2, 1)
    return nn.Sequential(Permute(*TO_FIRST), conv, Permute(*TO_LAST), nn.LayerNorm(out))

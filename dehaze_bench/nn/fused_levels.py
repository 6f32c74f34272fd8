"""The U-shaped skeleton of the DehazeFormer line: fused skips, reflected borders, reconstruction of the image.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.fusion import SelectiveKernelFusion, Up, reconstruct
from dehaze_bench.nn.normalisation import SYMMETRIC, Normalisation
from dehaze_bench.nn.reflected import reflected_conv


class FusedLevels(nn.Module):
    """A 3x3 convolution, `stages` at n + 1 scales down and up again, a 3x3 convolution to the image or to maps for it.

    Song et al., DehazeFormer (arXiv 2204.03883), figure 2; gUNet, MixDehazeNet and ED-Former share it. `dims` are the
    channels of the n + 1 scales, finest first, and there are 2 n + 1 `stages`; `downs[i]` and `ups[i]` lead from scale
    i to i + 1 and back, `fusions[i]` joins the skip of scale i. Where `add`, the fused map is added to the one from
    below. Where `soft`, four maps make J = K I - B + I, else three are added to I.

    The network works on [-1, 1]. Other sizes than multiples of `multiple` are reflected to the right and below and cut
    back, as published. `reach` is how far the coarsest map is reflected by the blocks: it must be larger than that.
    """

    normalisation: Normalisation = SYMMETRIC
    output_range = "RGB on the scale of the input, not clamped"
    multiple = 4
    trainable = True

    def __init__(
        self,
        dims: Sequence[int],
        stages: Sequence[nn.Module],
        soft: bool = True,
        add: bool = True,
        reach: int = 2,
    ) -> None:
        super().__init__()
        steps = list(pairwise(dims))
        self.soft, self.add, self.reach = soft, add, reach
        self.multiple = 2 ** len(steps)
        self.patch_embed = reflected_conv(3, dims[0], 3)
        self.layers = nn.ModuleList(stages)
        self.downs = nn.ModuleList(self.make_down(dim, wider) for dim, wider in steps)
        self.ups = nn.ModuleList(self.make_up(wider, dim) for dim, wider in steps)
        self.fusions = nn.ModuleList(self.make_fusion(dim) for dim, _ in steps)
        self.patch_unembed = reflected_conv(dims[0], 4 if soft else 3, 3)

    def make_down(self, dim: int, out: int) -> nn.Module:
        """Return what halves the size: a 2x2 convolution, unless a network has another."""
        return nn.Conv2d(dim, out, 2, stride=2)

    def make_up(self, dim: int, out: int) -> nn.Module:
        """Return what doubles the size: a pointwise convolution and a pixel shuffle."""
        return Up(dim, out)

    def make_fusion(self, dim: int) -> nn.Module:
        """Return what joins a map and the skip of its scale."""
        return SelectiveKernelFusion(dim)

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        return self.normalisation.undo(self.restore(self.normalisation.apply(hazy_BCHW)))

    def restore(self, x_BCHW: Tensor) -> Tensor:
        """Return the restored image for a hazy one in [-1, 1], on the same scale."""
        height, width = x_BCHW.shape[-2:]
        smallest = self.reach * self.multiple + 1
        if min(height, width) < smallest:
            raise UsageError(
                f"{type(self).__name__} reflects its coarsest map by {self.reach} tokens, so it needs images of at "
                f"least {smallest}x{smallest}, not {height}x{width}: use a larger crop, tile or image."
            )
        padded_BCHW = F.pad(x_BCHW, (0, -width % self.multiple, 0, -height % self.multiple), mode="reflect")
        maps_BCHW = self.maps(padded_BCHW)
        out_BCHW = reconstruct(maps_BCHW, padded_BCHW) if self.soft else maps_BCHW + padded_BCHW
        return out_BCHW[..., :height, :width]

    def maps(self, x_BCHW: Tensor) -> Tensor:
        """Return what the network predicts per pixel: K and B (four maps), or the change of the image (three)."""
        num_levels = len(self.downs)
        x_BCHW = self.patch_embed(x_BCHW)
        skips = []
        for stage, down in zip(self.layers, self.downs, strict=False):
            skips.append(stage(x_BCHW))
            x_BCHW = down(skips[-1])
        x_BCHW = self.layers[num_levels](x_BCHW)
        for level in reversed(range(num_levels)):
            x_BCHW = self.layers[2 * num_levels - level](self.join(level, x_BCHW, skips[level]))
        return self.patch_unembed(x_BCHW)

    def join(self, level: int, x_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        """Return the map from below, at the size of `level`, fused with the skip."""
        x_BCHW = self.ups[level](x_BCHW)
        fused_BCHW = self.fusions[level](x_BCHW, skip_BCHW)
        return fused_BCHW + x_BCHW if self.add else fused_BCHW


def check_stages(network: str, dims: Sequence[int], stages: Mapping[str, Sequence[object]]) -> None:
    """Raise `UsageError` unless there are `dims` and each list has an entry for every stage, 2 n + 1 for n + 1 dims."""
    need = 2 * len(dims) - 1
    if min(dims, default=0) < 1:
        raise UsageError(f"{network} takes the channels of its scales, finest first, not dims={list(dims)}")
    for name, entries in stages.items():
        if len(entries) != need:
            raise UsageError(
                f"{network} with {len(dims)} scales has {need} stages, down and up: {name}={list(entries)} must have "
                "an entry for each"
            )

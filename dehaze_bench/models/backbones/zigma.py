"""ZigMa: a diffusion network whose layers walk over the picture in turns, along snakes from its corners.

Hu et al., "ZigMa: A DiT-style Zigzag Mamba Diffusion Model", ECCV 2024, arXiv 2403.13802. It predicts a field the
shape of its input, a latent picture, at a time. The published size for FacesHQ, COCO and others: 768 channels, 24
layers, patches of 1 or 2, eight paths in turn; 134,624,260 parameters with patches of 1 on latents of 4 x 32 x 32.

Left out: conditions on text and on classes, and videos. Deviation: any rectangle, with the position table resized.

Shape legend: B batch, L tokens, C channels, H and W size, F frequencies.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.nn.branched import Branched
from dehaze_bench.nn.drop import DropPath, drop_rates
from dehaze_bench.nn.residual import ResidualLayer, init_stream
from dehaze_bench.nn.tokens import Tokens
from dehaze_bench.scans import Grid, Scan, curves

FREQUENCIES = 256
TIME_SCALE = 1000.0
ZIGZAG = Scan("zigzag", partial(curves.zigzag, routes=8), "sum", mode="alternate")


class ZigMa(nn.Module):
    """A field (B, channels, H, W) from a picture and a time (B,) in [0, 1]; without a time it is 0.

    Layer i walks along route i mod K of `scan`, by default one of eight snakes; a scan that is not to be taken in
    turns has a branch for each route. `features` is one map, normalised.
    """

    def __init__(
        self,
        channels: int = 4,
        dim: int = 768,
        depth: int = 24,
        patch: int = 1,
        image_size: int = 32,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2.0,
        position: str = "learned",
        drop_path: float = 0.0,
        scan: Scan | None = None,
    ) -> None:
        super().__init__()
        self.widths, self.strides, self.multiple = (dim,), (patch,), patch
        self.channels, self.patch = channels, patch
        self.tokens = Tokens(dim, patch, patch, image_size, position=position, channels=channels)
        self.time = TimeEmbedding(dim)
        scan = scan or ZIGZAG
        mixers = [Modulated(dim, Branched(dim, scan.for_block(i), d_state, d_conv, expand)) for i in range(depth)]
        rates = [0.0, *drop_rates(drop_path, depth)]
        self.layers = nn.ModuleList(ResidualLayer(dim, mixer, rate) for mixer, rate in zip(mixers, rates, strict=False))
        self.drop_path = DropPath(drop_path)
        self.norm_f = nn.RMSNorm(dim, eps=1e-5)
        self.final = nn.Linear(dim, patch**2 * channels)
        init_stream(self.layers)
        for mixer in mixers:
            nn.init.zeros_(mixer.condition.weight)
        nn.init.zeros_(self.final.bias)
        proj = self.tokens.patch_embed.proj
        nn.init.xavier_uniform_(proj.weight.flatten(1))
        if proj.bias is not None:
            nn.init.zeros_(proj.bias)
        if self.tokens.pos_embed is not None:
            nn.init.zeros_(self.tokens.pos_embed)

    def run(self, image_BCHW: Tensor, time_B: Tensor | None = None) -> tuple[Tensor, Grid]:
        """Return the tokens after the last norm and their grid."""
        hidden_BLC, grid = self.tokens(image_BCHW)
        time_B = hidden_BLC.new_zeros(hidden_BLC.shape[0]) if time_B is None else time_B
        condition_BC = self.time(time_B)
        residual_BLC = None
        for layer in self.layers:
            hidden_BLC, residual_BLC = layer(hidden_BLC, residual_BLC, grid, condition_BC)
        if residual_BLC is not None:
            hidden_BLC = residual_BLC + self.drop_path(hidden_BLC)
        return self.norm_f(hidden_BLC.to(self.norm_f.weight.dtype)), grid

    def features(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return one map (B, C, H / patch, W / patch)."""
        return [self.tokens.to_map(*self.run(image_BCHW))]

    def forward(self, image_BCHW: Tensor, time_B: Tensor | None = None) -> Tensor:
        x_BLC, grid = self.run(image_BCHW, time_B)
        x_BLC = self.final(F.layer_norm(x_BLC, x_BLC.shape[-1:], eps=1e-6))
        # A token holds the pixels of its patch, the channels of a pixel side by side.
        return F.pixel_shuffle(
            x_BLC.unflatten(2, (-1, self.channels)).permute(0, 3, 2, 1).flatten(1, 2).unflatten(2, grid), self.patch
        )


class Modulated(nn.Module):
    """A mixer of modulated tokens, added to them by a gate; shift, scale and gate come from the condition ("adaLN").

    As published, the skip takes the normalised tokens, and the sum joins the residual stream as the mixer's output.
    """

    def __init__(self, dim: int, mixer: Branched) -> None:
        super().__init__()
        self.mixer = mixer
        self.condition = nn.Linear(dim, 3 * dim)

    def forward(self, x_BLC: Tensor, grid: Grid, condition_BC: Tensor) -> Tensor:
        shift_B1C, scale_B1C, gate_B1C = self.condition(F.silu(condition_BC))[:, None].chunk(3, dim=-1)
        return x_BLC + gate_B1C * self.mixer(x_BLC * (1 + scale_B1C) + shift_B1C, grid)


class TimeEmbedding(nn.Module):
    """Cosines and sines of a time at geometric frequencies, then two linear maps with a SiLU between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(FREQUENCIES, dim)
        self.fc2 = nn.Linear(dim, dim)
        for layer in (self.fc1, self.fc2):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, time_B: Tensor) -> Tensor:
        half = FREQUENCIES // 2
        wave_F = torch.exp(-math.log(10000.0) * torch.arange(half, device=time_B.device) / half)
        angle_BF = TIME_SCALE * time_B[:, None] * wave_F
        return self.fc2(F.silu(self.fc1(torch.cat([angle_BF.cos(), angle_BF.sin()], dim=1))))

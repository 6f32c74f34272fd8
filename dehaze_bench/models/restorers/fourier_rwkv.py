"""Fourier-RWKV: bi-WKV attention over Fourier coefficients, deformable token shifts, skips through made kernels.

Zheng, Li, Yu, Zhang, "Fourier-RWKV: A Multi-State Perception Network for Efficient Image Dehazing", arXiv 2512.08161.

| dim | parameters | MACs at 256 x 256 |
|-----|------------|-------------------|
| 24  | 5.307 M, of them 0.541 M position tables | 15.83 G, without transforms, bi-WKV and sampling |

Published without a licence; its weights are hosted where they cannot be fetched by a program. The released network is
trained with the CUDA kernel of Vision-RWKV, which deviates from the formula that the paper prints; `form` chooses (see
`ops/wkv`). Deviations: coefficients of equal rank keep their raster order, where the released code leaves it to the
sorting algorithm of the device; a stage of one layer can be built; `scan` replaces the order of the coefficients.

Shape legend: B batch, C channels, H and W size, F = W // 2 + 1 columns of a half spectrum, L tokens or coefficients,
D = 2 C real and imaginary parts, G groups of channels, K routes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import cast

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.initialisation import init_linear
from dehaze_bench.nn.merge import Merge
from dehaze_bench.nn.mixers.wkv import decay_start, first_start, mix_start
from dehaze_bench.nn.patch import PatchEmbed
from dehaze_bench.nn.positions import resize_table
from dehaze_bench.nn.routes import whole_orders
from dehaze_bench.nn.sampling import sample_pixels
from dehaze_bench.nn.shift import blend
from dehaze_bench.ops.wkv import bi_wkv
from dehaze_bench.scans import Scan
from dehaze_bench.scans.grid import Grid, token_ids

# The four neighbours that the groups of channels start from, (rows, columns): above, below, left, right.
NEIGHBOURS = ((-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))
KERNELS = (3, 5, 7)


def by_frequency(grid: Grid) -> np.ndarray:
    """Coefficients of a half spectrum (H, F), lowest product of vertical and horizontal frequency first: one route.

    Vertical frequencies count from 0 in both halves of the rows, as released.
    """
    height, width = token_ids(grid, "frequency", axes=2).shape
    row_H = np.concatenate([np.arange(height // 2), np.arange(height - height // 2)[::-1]])
    return np.argsort(np.outer(row_H, np.arange(width)).ravel(), kind="stable")[None]


class FourierRWKV(nn.Module):
    """U-shaped network of three levels and a latent one, width doubled per level; its residual is added to the input.

    `depths` are the layers of levels 1 to 3 and of the latent level, `decoder_depths` those of levels 3, 2, 1; `table`
    is the side of the square position table of every stage, which is resized to the picture. `scan` is an order of the
    coefficients of a half spectrum, (H, W // 2 + 1), instead of the published one by frequency; it then has a decay and
    a bonus per route, and the outputs of the routes are merged before the receptance.
    """

    multiple = 8
    output_range = "residual added to the input, not clamped"

    def __init__(
        self,
        dim: int = 24,
        depths: Sequence[int] = (2, 3, 3, 4),
        decoder_depths: Sequence[int] = (3, 3, 2),
        hidden_rate: int = 4,
        table: int = 32,
        scan: Scan | None = None,
        form: str = "paper",
    ) -> None:
        super().__init__()
        if len(depths) != 4 or len(decoder_depths) != 3:
            raise UsageError(
                f"Fourier-RWKV has 4 depths down to its latent level and 3 decoder_depths, not {list(depths)} and "
                f"{list(decoder_depths)}: the published ones are [2, 3, 3, 4] and [3, 3, 2]"
            )
        if dim % 4:
            raise UsageError(f"Fourier-RWKV shifts channels in four groups: dim={dim} must be a multiple of 4, as 24")
        walk, numbers = Scan("frequency", by_frequency) if scan is None else scan, count()

        def make(width: int, depth: int) -> Stage:
            return Stage(width, [walk.for_block(next(numbers)) for _ in range(depth)], hidden_rate, table, form)

        widths = [dim * 2**level for level in range(4)]
        self.head = nn.Conv2d(3, dim, 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(map(make, widths, depths))
        self.down = nn.ModuleList(
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, padding_mode="reflect") for width in widths[:3]
        )
        up_widths = widths[2::-1]
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * width, 4 * width, 1), nn.PixelShuffle(2)) for width in up_widths
        )
        self.fuse = nn.ModuleList(SemanticBridge(width) for width in up_widths)
        self.decoder = nn.ModuleList(map(make, up_widths, decoder_depths))
        self.tail = nn.Conv2d(dim, 3, 3, padding=1, bias=False)
        self.apply(init_linear)

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        x_BCHW = self.encoder[0](self.head(hazy_BCHW))
        skips = [x_BCHW]
        for down, stage in zip(self.down, self.encoder[1:], strict=True):
            skips.append(stage(down(skips[-1])))
        x_BCHW = skips.pop()
        for up, fuse, stage in zip(self.up, self.fuse, self.decoder, strict=True):
            x_BCHW = stage(fuse(up(x_BCHW), skips.pop()))
        return self.tail(x_BCHW) + hazy_BCHW


class Stage(nn.Module):
    """Patch embedding of stride 1, position table, a layer for each of `scans`: (B, C, H, W) to the same."""

    def __init__(self, dim: int, scans: Sequence[Scan], hidden_rate: int, table: int, form: str) -> None:
        super().__init__()
        self.table = (table, table)
        self.patch_embed = PatchEmbed(dim, 3, 1, channels=dim, corner_pad=True)
        self.pos_embed = nn.Parameter(torch.zeros(1, table * table, dim))
        self.layers = nn.ModuleList(Layer(dim, i, len(scans), hidden_rate, scan, form) for i, scan in enumerate(scans))

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("pos_embed",)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BHWC = self.patch_embed(x_BCHW)
        grid = (x_BHWC.shape[1], x_BHWC.shape[2])
        x_BHWC = x_BHWC + resize_table(self.pos_embed, self.table, grid).unflatten(1, grid)
        for layer in self.layers:
            x_BHWC = layer(x_BHWC)
        return x_BHWC.permute(0, 3, 1, 2)


class Layer(nn.Module):
    """Fourier mix and channel mix, both normalised before and residual."""

    def __init__(self, dim: int, layer: int, num_layers: int, hidden_rate: int, scan: Scan, form: str) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.att = FourierMix(dim, layer, num_layers, scan, form)
        self.ffn = ChannelMix(dim, layer, num_layers, hidden_rate)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x_BHWC = x_BHWC + self.att(self.ln1(x_BHWC))
        return x_BHWC + self.ffn(self.ln2(x_BHWC))


class FourierMix(nn.Module):
    """Bi-WKV over the spectra of keys and values, gated there by the values' spectrum, then by a receptance."""

    def __init__(self, dim: int, layer: int, num_layers: int, scan: Scan, form: str) -> None:
        super().__init__()
        self.scan, self.form = scan, form
        routes = scan.num_routes
        self.spatial_decay = nn.Parameter(decay_start(dim, layer, num_layers).repeat(routes, 2))
        self.spatial_first = nn.Parameter(first_start(dim).repeat(routes, 2))
        self.spatial_mix_k, self.spatial_mix_v, self.spatial_mix_r = (
            nn.Parameter(mix_start(dim, layer, num_layers, name)) for name in "kvr"
        )
        self.shift = DeformableShift(dim)
        self.key, self.value, self.receptance_spa = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.receptance_fft = nn.Linear(2 * dim, 2 * dim, bias=False)
        self.key_norm = nn.LayerNorm(2 * dim)
        self.output = nn.Linear(dim, dim, bias=False)
        self.merge = Merge(scan.merge, routes, 2 * dim)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("spatial_decay", "spatial_first", "spatial_mix_k", "spatial_mix_v", "spatial_mix_r")

    def forward(self, x_BHWC: Tensor) -> Tensor:
        height, width = x_BHWC.shape[1:3]
        shifted_BHWC = self.shift(x_BHWC)
        k_BLD = to_spectrum(self.key(blend(shifted_BHWC, x_BHWC, self.spatial_mix_k)))
        v_BLD = to_spectrum(self.value(blend(shifted_BHWC, x_BHWC, self.spatial_mix_v)))
        r_BHWC = self.receptance_spa(blend(shifted_BHWC, x_BHWC, self.spatial_mix_r))
        decay_KD, first_KD = self.spatial_decay.float(), self.spatial_first.float()
        orders = whole_orders(self.scan, k_BLD, (height, width // 2 + 1), "Fourier-RWKV")
        outputs = [
            bi_wkv(decay_KD[k], first_KD[k], k_BLD, v_BLD, order_L, form=self.form) for k, order_L in enumerate(orders)
        ]
        y_BLD = self.key_norm(self.merge(torch.stack(outputs, dim=1)))
        y_BHWC = from_spectrum(torch.sigmoid(self.receptance_fft(v_BLD)) * y_BLD, (height, width))
        return self.output(y_BHWC * r_BHWC)


class ChannelMix(nn.Module):
    """Squared ReLU to `hidden_rate` times the channels, normalised, and back, behind a receptance gate."""

    def __init__(self, dim: int, layer: int, num_layers: int, hidden_rate: int) -> None:
        super().__init__()
        hidden = hidden_rate * dim
        self.spatial_mix_k = nn.Parameter(mix_start(dim, layer, num_layers, "k"))
        self.spatial_mix_r = nn.Parameter(mix_start(dim, layer, num_layers, "k"))  # as released, unlike Vision-RWKV
        self.shift = DeformableShift(dim)
        self.key = nn.Linear(dim, hidden, bias=False)
        self.key_norm = nn.LayerNorm(hidden)
        self.receptance = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(hidden, dim, bias=False)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("spatial_mix_k", "spatial_mix_r")

    def forward(self, x_BHWC: Tensor) -> Tensor:
        shifted_BHWC = self.shift(x_BHWC)
        hidden_BHWD = F.relu(self.key(blend(shifted_BHWC, x_BHWC, self.spatial_mix_k))).square()
        r_BHWC = self.receptance(blend(shifted_BHWC, x_BHWC, self.spatial_mix_r))
        return torch.sigmoid(r_BHWC) * self.value(self.key_norm(hidden_BHWD))


class DeformableShift(nn.Module):
    """DQ-Shift: four groups of channels read from the four neighbours, each moved further by a learnt offset per pixel.

    Offsets are weighed by a sigmoid gate; beyond the border lies the nearest pixel.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        groups = len(NEIGHBOURS)
        move, gate = nn.Conv2d(dim, 2 * groups, 1), nn.Conv2d(dim, 2 * groups, 1)
        nn.init.normal_(move.weight, std=0.001)
        for zero in (move.bias, gate.weight, gate.bias):
            nn.init.zeros_(cast(Tensor, zero))
        self.offset = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1, groups=dim), nn.GELU(), move)
        self.weight = nn.Sequential(gate, nn.Sigmoid())

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x_BCHW = x_BHWC.permute(0, 3, 1, 2)
        column_row = (self.offset(x_BCHW) * self.weight(x_BCHW)).unflatten(1, (2, len(NEIGHBOURS)))
        shift_BG2HW = column_row.flip(1).transpose(1, 2) + column_row.new_tensor(NEIGHBOURS)[..., None, None]
        groups_BGCHW = x_BCHW.unflatten(1, (len(NEIGHBOURS), -1))
        shifted = sample_pixels(groups_BGCHW.flatten(0, 1), shift_BG2HW.flatten(0, 1).unsqueeze(2), "border")
        return shifted.view_as(x_BCHW).permute(0, 2, 3, 1)


class SemanticBridge(nn.Module):
    """Skip connection: the encoder's map through depthwise kernels that its likeness to the decoder's map makes.

    The products of the mean channels of both become, for every channel, one kernel of 3, 5 and 7 each, positive and of
    sum 1; masks per pixel weigh the three results into a smooth part, of which a learnt share is added to the map, less
    a learnt share of its mean. Then both maps are joined by a pointwise convolution.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        num = len(KERNELS)
        self.weights_proj = nn.Linear(dim, sum(size**2 for size in KERNELS), bias=False)
        self.fuse = nn.Sequential(
            nn.Conv2d(num * dim, num * dim, 3, padding=1, groups=num * dim, bias=False),
            nn.Conv2d(num * dim, num, 1, bias=False),
            nn.Softmax(dim=1),
        )
        self.lamb_l = nn.Parameter(torch.zeros(dim))
        self.lamb_h = nn.Parameter(torch.zeros(dim))
        self.inside_all = nn.Parameter(torch.zeros(dim, 1, 1))
        self.final_conv = nn.Conv2d(2 * dim, dim, 1, bias=False)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("lamb_l", "lamb_h", "inside_all")

    def forward(self, x_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        mean_BC11 = skip_BCHW.mean(dim=(2, 3), keepdim=True)
        likeness_BCC = mean_BC11.flatten(2) * x_BCHW.mean(dim=(2, 3))[:, None]
        taps_BCT = self.weights_proj(likeness_BCC).split([size**2 for size in KERNELS], dim=-1)
        stacked = skip_BCHW.flatten(0, 1)[None]  # every channel of every picture has a kernel of its own
        parts = [
            F.conv2d(
                stacked,
                torch.softmax(taps, dim=-1).flatten(0, 1).unflatten(-1, (1, size, size)),
                padding=size // 2,
                groups=stacked.shape[1],
            ).view_as(skip_BCHW)
            for size, taps in zip(KERNELS, taps_BCT, strict=True)
        ]
        masks = self.fuse(torch.cat(parts, dim=1)).split(1, dim=1)
        smooth_BCHW = torch.stack([part * mask for part, mask in zip(parts, masks, strict=True)]).sum(0)
        smooth_BCHW = smooth_BCHW * (self.inside_all + 1) - self.inside_all * mean_BC11
        low, high = (share_C[:, None, None] for share_C in (self.lamb_l, self.lamb_h))
        return self.final_conv(torch.cat([smooth_BCHW * low + skip_BCHW * (high + 1), x_BCHW], dim=1))


def to_spectrum(x_BHWC: Tensor) -> Tensor:
    """Return the orthonormal half spectrum as tokens (B, H * F, 2 C), real parts first; in float32 at least."""
    x_BHWC = x_BHWC.to(torch.promote_types(x_BHWC.dtype, torch.float32))
    spectrum_BHFC = torch.fft.rfft2(x_BHWC, dim=(1, 2), norm="ortho")
    return torch.cat([spectrum_BHFC.real, spectrum_BHFC.imag], dim=-1).flatten(1, 2)


def from_spectrum(x_BLD: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the picture (B, H, W, C) of a half spectrum in the layout of `to_spectrum`."""
    x_BLD = x_BLD.to(torch.promote_types(x_BLD.dtype, torch.float32))
    real, imaginary = x_BLD.unflatten(1, (grid[0], grid[1] // 2 + 1)).chunk(2, dim=-1)
    return torch.fft.irfft2(torch.complex(real, imaginary), s=grid, dim=(1, 2), norm="ortho")

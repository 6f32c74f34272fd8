"""Vision-RWKV: bidirectional linear attention with shifts to four neighbours.

Duan et al., "Vision-RWKV: Efficient and Scalable Visual Perception with RWKV-Like Architectures", ICLR 2025, arXiv
2403.02308, section 3 and table 1.

| size    | D    | depth | norm                        | parameters  | FLOPs  | top-1 |
|---------|------|-------|-----------------------------|-------------|--------|-------|
| VRWKV-T | 192  | 12    | pre                         | 6,155,176   | 1.2 G  | 75.1  |
| VRWKV-S | 384  | 12    | post, scale 1               | 23,820,136  | 4.6 G  | 80.1  |
| VRWKV-B | 768  | 12    | post, scale 1e-5            | 93,645,544  | 18.2 G | 82.0  |
| VRWKV-L | 1024 | 24    | post, scale 1e-5, key norms | 334,881,768 | 189.5 G (384 pixels) | 86.0 |

The published network is trained and evaluated with a CUDA kernel that deviates from the paper's formula; `form`
chooses (see `ops/wkv`). The largest size keeps the position table of its pre-training at 192 pixels and resizes it to
the 384 that it is evaluated at. Deviation: `scan` gives the attention other orders than raster; it then has a decay and
a bonus per route, and the outputs of the routes are merged before the receptance.

Shape legend: B batch, H and W grid, L = H*W tokens, C channels, K routes.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.drop import DropPath, drop_rates
from dehaze_bench.nn.initialisation import init_linear
from dehaze_bench.nn.merge import Merge
from dehaze_bench.nn.mixers.wkv import decay_start, first_start, mix_start
from dehaze_bench.nn.patch import PatchEmbed
from dehaze_bench.nn.positions import resize_table
from dehaze_bench.nn.routes import whole_orders
from dehaze_bench.nn.shift import blend, q_shift
from dehaze_bench.ops.wkv import bi_wkv
from dehaze_bench.scans import Scan
from dehaze_bench.scans.planar import raster


class VRWKV(nn.Module):
    """Plain network of one stride; no class token, mean over the tokens.

    `layer_scale=None` is the pre-norm form, a number the post-norm form with scales that start there. `key_norm` adds
    the norms of the largest size, `head_hidden` its two-layer head. `features` is one map, normalised.
    """

    counting = "vrwkv"

    def __init__(
        self,
        dim: int = 192,
        depth: int = 12,
        hidden_rate: int = 4,
        layer_scale: float | None = None,
        key_norm: bool = False,
        patch: int = 16,
        image_size: int = 224,
        drop_path: float = 0.0,
        head_hidden: int | None = None,
        scan: Scan | None = None,
        form: str = "paper",
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        if image_size % patch:
            raise UsageError(f"VRWKV with patch={patch} needs image_size as a multiple of it, not {image_size}")
        scan = Scan("raster", raster, "mean") if scan is None else scan
        self.multiple = patch
        self.strides, self.widths = (patch,), (dim,)
        self.grid = (image_size // patch, image_size // patch)
        self.patch_embed = PatchEmbed(dim, patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], dim))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        rates = drop_rates(drop_path, depth)
        self.layers = nn.ModuleList(
            Layer(dim, i, depth, hidden_rate, layer_scale, key_norm, scan.for_block(i), form, rates[i])
            for i in range(depth)
        )
        self.ln1 = nn.LayerNorm(dim)
        self.head = _make_head(dim, head_hidden, num_classes)
        self.apply(init_linear)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("pos_embed",)

    def features(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return one map (B, C, H / patch, W / patch), normalised."""
        x_BHWC = self.patch_embed(image_BCHW)
        grid = (x_BHWC.shape[1], x_BHWC.shape[2])
        x_BLC = x_BHWC.flatten(1, 2) + resize_table(self.pos_embed, self.grid, grid)
        for layer in self.layers:
            x_BLC = layer(x_BLC, grid)
        return [self.ln1(x_BLC).transpose(1, 2).unflatten(2, grid)]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.head(self.features(image_BCHW)[0].mean(dim=(2, 3)))


class Layer(nn.Module):
    """Spatial mix and channel mix, both residual; the first layer normalises its input."""

    def __init__(
        self,
        dim: int,
        layer: int,
        num_layers: int,
        hidden_rate: int,
        layer_scale: float | None,
        key_norm: bool,
        scan: Scan,
        form: str,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.ln0 = nn.LayerNorm(dim) if layer == 0 else nn.Identity()
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.att = SpatialMix(dim, layer, num_layers, key_norm, scan, form)
        self.ffn = ChannelMix(dim, layer, num_layers, hidden_rate, key_norm)
        self.drop_path = DropPath(drop_path)
        self.gamma1: nn.Parameter | None = None
        self.gamma2: nn.Parameter | None = None
        if layer_scale is not None:
            self.gamma1 = nn.Parameter(torch.full((dim,), float(layer_scale)))
            self.gamma2 = nn.Parameter(torch.full((dim,), float(layer_scale)))

    def forward(self, x_BLC: Tensor, grid: tuple[int, int]) -> Tensor:
        x_BLC = self.ln0(x_BLC)
        if self.gamma1 is None:
            x_BLC = x_BLC + self.drop_path(self.att(self.ln1(x_BLC), grid))
            return x_BLC + self.drop_path(self.ffn(self.ln2(x_BLC), grid))
        x_BLC = x_BLC + self.drop_path(self.gamma1 * self.ln1(self.att(x_BLC, grid)))
        return x_BLC + self.drop_path(self.gamma2 * self.ln2(self.ffn(x_BLC, grid)))


class SpatialMix(nn.Module):
    """Q-Shift, bi-WKV attention along every route, receptance gate (arXiv 2403.02308, equations 1-5)."""

    def __init__(self, dim: int, layer: int, num_layers: int, key_norm: bool, scan: Scan, form: str) -> None:
        super().__init__()
        self.scan, self.form = scan, form
        routes = scan.num_routes
        self.spatial_decay = nn.Parameter(decay_start(dim, layer, num_layers).repeat(routes, 1))
        self.spatial_first = nn.Parameter(first_start(dim).repeat(routes, 1))
        self.spatial_mix_k = nn.Parameter(mix_start(dim, layer, num_layers, "k"))
        self.spatial_mix_v = nn.Parameter(mix_start(dim, layer, num_layers, "v"))
        self.spatial_mix_r = nn.Parameter(mix_start(dim, layer, num_layers, "r"))
        self.key, self.value, self.receptance, self.output = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.key_norm = nn.LayerNorm(dim) if key_norm else nn.Identity()
        self.merge = Merge(scan.merge, routes, dim)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("spatial_decay", "spatial_first", "spatial_mix_k", "spatial_mix_v", "spatial_mix_r")

    def forward(self, x_BLC: Tensor, grid: tuple[int, int]) -> Tensor:
        shifted_BLC = q_shift(x_BLC, grid)
        k_BLC = self.key(blend(shifted_BLC, x_BLC, self.spatial_mix_k))
        v_BLC = self.value(blend(shifted_BLC, x_BLC, self.spatial_mix_v))
        r_BLC = self.receptance(blend(shifted_BLC, x_BLC, self.spatial_mix_r))
        decay_KC, first_KC = self.spatial_decay.float(), self.spatial_first.float()
        outputs = [
            bi_wkv(decay_KC[k], first_KC[k], k_BLC, v_BLC, order_L, form=self.form)
            for k, order_L in enumerate(whole_orders(self.scan, x_BLC, grid, "Vision-RWKV"))
        ]
        y_BLC = self.key_norm(self.merge(torch.stack(outputs, dim=1)))
        return self.output(torch.sigmoid(r_BLC) * y_BLC)


class ChannelMix(nn.Module):
    """Q-Shift, squared ReLU to `hidden_rate` times the channels and back, receptance gate (equations 6-7)."""

    def __init__(self, dim: int, layer: int, num_layers: int, hidden_rate: int, key_norm: bool) -> None:
        super().__init__()
        hidden = hidden_rate * dim
        self.spatial_mix_k = nn.Parameter(mix_start(dim, layer, num_layers, "k"))
        self.spatial_mix_r = nn.Parameter(mix_start(dim, layer, num_layers, "r"))
        self.key = nn.Linear(dim, hidden, bias=False)
        self.key_norm = nn.LayerNorm(hidden) if key_norm else nn.Identity()
        self.receptance = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(hidden, dim, bias=False)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("spatial_mix_k", "spatial_mix_r")

    def forward(self, x_BLC: Tensor, grid: tuple[int, int]) -> Tensor:
        shifted_BLC = q_shift(x_BLC, grid)
        k_BLD = F.relu(self.key(blend(shifted_BLC, x_BLC, self.spatial_mix_k))).square()
        r_BLC = self.receptance(blend(shifted_BLC, x_BLC, self.spatial_mix_r))
        return torch.sigmoid(r_BLC) * self.value(self.key_norm(k_BLD))


def _make_head(dim: int, hidden: int | None, num_classes: int) -> nn.Module:
    if not num_classes:
        return nn.Identity()
    if hidden is None:
        return nn.Linear(dim, num_classes)
    return nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, num_classes))

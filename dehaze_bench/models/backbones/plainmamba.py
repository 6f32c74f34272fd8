"""PlainMamba: a single-resolution backbone of selective scans along four snakes that know the way they go.

Yang et al., "PlainMamba: Improving Non-Hierarchical Mamba in Visual Recognition", BMVC 2024, arXiv 2403.17695,
section 3 and table 1.

| size | D   | depth | stem convs | parameters, with head | MACs at 224 | top-1 |
|------|-----|-------|------------|-----------------------|-------------|-------|
| L1   | 192 | 24    | 1          | 7,551,656             | 3.018 G     | 77.9  |
| L2   | 384 | 24    | 2          | 26,145,832            | 8.084 G     | 81.6  |
| L3   | 448 | 36    | 2          | 50,956,456            | 14.449 G    | 82.3  |

Three quirks of the published code are kept, since its weights were trained with them; see `PlainRoutes`: only the input
follows a route, step size, B and C do not; the bias of the step size counts twice; it starts at zero.

Shape legend: B batch, H and W grid, L tokens, K routes, C channels, D inner channels, N states, R rank of the step
size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import torch
import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.depthwise import convolve_picture
from dehaze_bench.nn.drop import DropPath, drop_rates
from dehaze_bench.nn.initialisation import init_linear
from dehaze_bench.nn.patch import PatchEmbed
from dehaze_bench.nn.positions import resize_table
from dehaze_bench.nn.ss2d import SS2D, check_planar
from dehaze_bench.nn.step_size import draw_step_bias
from dehaze_bench.ops.selective_scan import selective_scan
from dehaze_bench.scans import Routes, Scan
from dehaze_bench.scans.curves import continuous, direction_labels

CONTINUOUS = Scan("continuous", continuous, merge="sum")
STEM_WIDTH, STEM_STRIDE = 64, 2
NUM_LABELS = 5  # start, right, left, up, down


class PlainMamba(nn.Module):
    """Convolutional stem, position table, layers of one width, mean of the tokens.

    `dw_layers` are the numbers of layers that a depthwise convolution follows (the first of L1). The position table is
    for `image_size` and resized bicubically for other sizes; an image that is no multiple of `patch` is filled with
    zeros on the right and at the bottom. `scan=None` is four snakes. `features` is the one map, normalised.
    """

    counting = "vmamba"

    def __init__(
        self,
        dim: int = 192,
        depth: int = 24,
        stem_convs: int = 1,
        dw_layers: Sequence[int] = (),
        d_state: int = 16,
        expand: float = 2.0,
        dt_rank: int | None = None,
        conv: int = 7,
        bias: bool = True,
        patch: int = 16,
        image_size: int = 224,
        drop_path: float = 0.0,
        num_classes: int = 1000,
        scan: Scan | None = None,
    ) -> None:
        super().__init__()
        if patch < 2 or patch % STEM_STRIDE:
            raise UsageError(f"PlainMamba's patch is a multiple of {STEM_STRIDE}, the stride of its stem, not {patch}")
        walked = check_planar(CONTINUOUS if scan is None else scan)
        self.widths, self.strides, self.multiple = (dim,), (patch,), patch
        self.patch_embed = ConvPatchEmbed(dim, stem_convs, patch)
        self.grid = (-(-image_size // patch),) * 2
        self.pos_embed = nn.Parameter(torch.empty(1, self.grid[0] * self.grid[1], dim))
        rates = drop_rates(drop_path, depth)
        self.layers = nn.ModuleList()
        for number, rate in enumerate(rates):
            routes = walked.for_block(number)
            mixer = SS2D(dim, routes, d_state, expand, dt_rank, conv=conv, bias=bias, norm=False, core=PlainRoutes)
            self.layers.append(PlainLayer(dim, mixer, number in dw_layers, rate))
        self.ln1 = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        self.apply(init_linear)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("pos_embed",)

    def features(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return the one map (B, C, H / patch, W / patch), sizes rounded up."""
        x_BHWC = self.patch_embed(image_BCHW)
        grid = (x_BHWC.shape[1], x_BHWC.shape[2])
        x_BHWC = x_BHWC + resize_table(self.pos_embed, self.grid, grid).unflatten(1, grid)
        for layer in self.layers:
            x_BHWC = layer(x_BHWC)
        return [self.ln1(x_BHWC).permute(0, 3, 1, 2)]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.head(self.features(image_BCHW)[0].mean(dim=(2, 3)))


class ConvPatchEmbed(nn.Module):
    """A 7x7 convolution of stride 2, `num_convs` 3x3 convolutions, then patches; batch norms and ReLUs between."""

    def __init__(self, dim: int, num_convs: int, patch: int) -> None:
        super().__init__()
        first = nn.Conv2d(3, STEM_WIDTH, 7, STEM_STRIDE, 3, bias=False)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(STEM_WIDTH), nn.ReLU())
        self.convs = nn.Sequential()
        for _ in range(num_convs):
            conv = nn.Conv2d(STEM_WIDTH, STEM_WIDTH, 3, padding=1, bias=False)
            self.convs.extend([conv, nn.BatchNorm2d(STEM_WIDTH), nn.ReLU()])
        self.projection = PatchEmbed(dim, patch // STEM_STRIDE, channels=STEM_WIDTH, corner_pad=True)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.projection(self.convs(self.stem(image_BCHW)))


class PlainLayer(nn.Module):
    """x + mamba(norm(x)), then, where there is one, a depthwise convolution with batch norm and GELU in its place."""

    def __init__(self, dim: int, mamba: nn.Module, with_dw: bool, drop: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.mamba = mamba
        self.drop_path = DropPath(drop)
        self.dw: nn.Sequential | None = None
        if with_dw:
            conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
            self.dw = nn.Sequential(conv, nn.BatchNorm2d(dim), nn.GELU())

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x_BHWC = x_BHWC + self.drop_path(self.mamba(self.norm(x_BHWC)))
        return x_BHWC if self.dw is None else convolve_picture(self.dw, x_BHWC)


class PlainRoutes(nn.Module):
    """One parameter set for all routes, and a vector for each kind of step that is added to B.

    As published, which is not as the paper has it: at step s a route reads its own token as the input, but the step
    size, B and C of the s-th token in raster order; and the bias of the step size is added by the projection and by the
    scan. So the input is gathered explicitly here, and the operator scans in raster order. The step's kind is the move
    that led to its token (start, right, left, up, down). A route must visit every token once.
    """

    def __init__(self, width: int, num_routes: int, d_state: int, dt_rank: int) -> None:
        super().__init__()
        self.d_state, self.dt_rank = d_state, dt_rank
        self.x_proj = nn.Linear(width, dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(dt_rank, width)
        with torch.no_grad():
            self.dt_proj.bias.copy_(draw_step_bias(width))
        nn.init.uniform_(self.dt_proj.weight, -(dt_rank**-0.5), dt_rank**-0.5)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, d_state + 1)).repeat(width, 1))
        self.D = nn.Parameter(torch.ones(width))
        self.direction_Bs = nn.Parameter(torch.empty(NUM_LABELS, d_state))
        nn.init.trunc_normal_(self.direction_Bs, std=0.02)

    def no_weight_decay(self) -> tuple[str, ...]:
        """Names of parameters that weight decay would push away from their meaning."""
        return ("A_log", "D")

    def forward(self, u_BLD: Tensor, routes: Routes, merge: str = "sum", first: int = 0) -> Tensor:
        """Return the sum of the routes at the tokens, (B, L, D), or with `merge` "none" each of them, (B, L, K, D)."""
        if routes.index_KL.ndim != 2 or not routes.is_permutation:
            raise UsageError(
                "PlainMamba's step sizes are those of the raster, so its routes visit every token once and know "
                f"their way before they see the picture; these do not on a grid of {routes.grid}. Use scan=continuous"
            )
        dt_BLR, B_BLN, C_BLN = self.x_proj(u_BLD).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        delta_BLD = self.dt_proj(dt_BLR)
        A_DN, D_D, bias_D = -torch.exp(self.A_log.float()), self.D.float(), self.dt_proj.bias.float()
        labels_KL = _labels(routes)
        outputs = []
        for k in range(routes.num_routes):
            y_BLD = selective_scan(
                u_BLD[:, routes.index_KL[k]],
                delta_BLD,
                A_DN,
                B_BLN + self.direction_Bs[labels_KL[k]].to(B_BLN.dtype),
                C_BLN,
                D_D=D_D,
                delta_bias_D=bias_D,
                delta_softplus=True,
            )
            outputs.append(cast(Tensor, y_BLD)[:, routes.inverse_KT[k]])
        return torch.stack(outputs, dim=2) if merge == "none" else sum(outputs[1:], outputs[0])


@lru_cache(maxsize=64)
def _labels(routes: Routes) -> Tensor:
    """Return the kind of each step, (K, L); routes are cached by their scan, so this is found once per grid."""
    index_KL = routes.index_KL
    if index_KL.is_meta:
        return torch.zeros_like(index_KL)
    grid = (routes.grid[0], routes.grid[1])
    return torch.from_numpy(direction_labels(index_KL.cpu().numpy(), grid)).to(index_KL.device)

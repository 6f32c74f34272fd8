"""MambaIRv2: window attention and one selective scan over tokens that are sorted by what they show.

Guo et al., "MambaIRv2: Attentive State Space Restoration", CVPR 2025, arXiv 2411.15269.

| build    | C   | depths     | heads | states | rank, prompts | reconstruction     | parameters | MACs at 256 + scan |
| -------- | --- | ---------- | ----- | ------ | ------------- | ------------------ | ---------- | ------------------ |
| light x2 | 48  | 5, 5, 5, 5 | 4     | 8      | 32, 64        | pixelshuffledirect | 774,092    | 73.2 + 4.5 G       |
| light x1 | 48  | 5, 5, 5, 5 | 4     | 8      | 32, 64        | residual           | 770,195    | 72.9 + 4.5 G       |
| ColorDN  | 174 | 6 x 6      | 6     | 16     | 64, 128       | residual           | 22,657,971 | 1635.7 + 118.2 G   |
| SR x2    | 174 | 6 x 6      | 6     | 16     | 64, 128       | pixelshuffle       | 22,903,001 | 1652.1 + 118.2 G   |
| Small x2 | 132 | 6 x 4      | 4     | 16     | 64, 128       | pixelshuffle       | 9,621,935  | 705.2 + 59.8 G     |
| Small x1 | 132 | 6 x 4      | 4     | 16     | 64, 128       | residual           | 9,399,963  | 690.3 + 59.8 G     |
| Large x2 | 174 | 9 x 6      | 6     | 16     | 64, 128       | pixelshuffle       | 34,090,523 | 2460.7 + 177.3 G   |
| Large x1 | 174 | 9 x 6      | 6     | 16     | 64, 128       | residual           | 33,845,493 | 2444.3 + 177.3 G   |

No dehazing build was published; the x1 builds are the published ones with the residual reconstruction of ColorDN.

Deviations:
- The published routing draws Gumbel noise in evaluation too, so that its output differs from call to call. Here noise
  is for training alone, and in evaluation a token takes its likeliest prompt; `eval_noise=True` is as published.
- Tokens of the same prompt keep their raster order; the published sort leaves their order to the sorting algorithm.

Kept as published, though the attentive state-space equation gives every pixel its own prompt: the prompts join the
state space in raster order while its tokens come sorted, so a token meets the prompt of the pixel whose place it takes.

Shape legend: B batch, C channels, H and W grid, L tokens, N states, T prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.depthwise import convolve_picture
from dehaze_bench.nn.residual_groups import ResidualGroups
from dehaze_bench.nn.ss2d import SelectiveRoutes, place
from dehaze_bench.nn.windows import WindowAttention, attend_in_windows
from dehaze_bench.scans import Routes


class MambaIRv2(ResidualGroups):
    """Residual groups of `AttentiveBlock`s, every second one with shifted windows; any size, padded inside.

    `expand` widens the state space and the feed-forward layers; `light` takes the gated feed-forward layers of the
    light build, which leave `kernel` unused. `prompts` is the number of groups that tokens are sorted into, `rank` that
    of their table. There is no `scan` to choose: the order of the one route follows from the tokens.
    """

    def __init__(
        self,
        dim: int = 48,
        depths: Sequence[int] = (5, 5, 5, 5),
        heads: int | Sequence[int] = 4,
        d_state: int = 8,
        window: int = 16,
        rank: int = 32,
        prompts: int = 64,
        kernel: int = 5,
        expand: float = 1.0,
        light: bool = False,
        qkv_bias: bool = True,
        upsampler: str = "",
        upscale: int = 1,
        connection: str = "1conv",
        channels: int = 3,
        image_range: float = 1.0,
        eval_noise: bool = False,
    ) -> None:
        counts = [heads] * len(depths) if isinstance(heads, int) else list(heads)
        if len(counts) != len(depths):
            raise UsageError(f"MambaIRv2 needs heads for every group: depths={list(depths)} and heads={counts} differ")
        if any(dim % count for count in counts):
            raise UsageError(f"MambaIRv2 cannot split {dim} channels into heads={counts}")
        if min(window, rank, prompts, dim // 3, int(dim * expand)) < 1:
            raise UsageError(
                f"MambaIRv2 needs window, rank, prompts and dim * expand >= 1 and dim >= 3, not window={window}, "
                f"rank={rank}, prompts={prompts}, expand={expand} for {dim} channels"
            )
        self.window = window

        def block(group: int, place: int, number: int) -> AttentiveBlock:
            space = AttentiveStateSpace(dim, d_state, expand, rank, prompts, eval_noise)
            hidden = int(dim * expand)
            ffns = [SpatialGateFFN(dim, hidden) if light else DepthwiseFFN(dim, hidden, kernel) for _ in range(2)]
            attention = WindowAttention(dim, counts[group], window, qkv_bias)
            return AttentiveBlock(dim, attention, space, ffns, window, window // 2 if place % 2 else 0)

        super().__init__(block, dim, depths, upsampler, upscale, connection, channels, image_range)

    def restore(self, image_BCHW: Tensor) -> Tensor:
        height, width = image_BCHW.shape[-2:]
        padded = image_BCHW.index_select(2, mirrored(height, self.window, image_BCHW.device))
        padded = padded.index_select(3, mirrored(width, self.window, image_BCHW.device))
        return super().restore(padded)[..., : height * self.upscale, : width * self.upscale]


def mirrored(size: int, multiple: int, device: torch.device) -> Tensor:
    """Return indices of `size` pixels that go on to a multiple, back and forth with the pixel at the border twice."""
    step = torch.arange(-(-size // multiple) * multiple, device=device) % (2 * size)
    return torch.minimum(step, 2 * size - 1 - step)


class AttentiveBlock(nn.Module):
    """Window attention and an attentive state space, each with a feed-forward layer; (B, H, W, C) to the same shape.

    Each half keeps its input beside what it makes, times a learned scale that starts at 1e-4.
    """

    def __init__(
        self,
        dim: int,
        attention: WindowAttention,
        space: AttentiveStateSpace,
        ffns: Sequence[nn.Module],
        window: int,
        shift: int,
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(dim) for _ in range(4))
        self.scale1 = nn.Parameter(torch.full((dim,), 1e-4))
        self.scale2 = nn.Parameter(torch.full((dim,), 1e-4))
        self.win_mhsa, self.assm = attention, space
        self.convffn1, self.convffn2 = ffns

    def forward(self, x_BHWC: Tensor) -> Tensor:
        y_BHWC = x_BHWC + attend_in_windows(self.win_mhsa, self.norm1(x_BHWC), self.window, self.shift)
        y_BHWC = y_BHWC + self.convffn1(self.norm2(y_BHWC))
        x_BHWC = x_BHWC * self.scale1 + y_BHWC
        y_BHWC = x_BHWC + self.assm(self.norm3(x_BHWC))
        y_BHWC = y_BHWC + self.convffn2(self.norm4(y_BHWC))
        return x_BHWC * self.scale2 + y_BHWC


class AttentiveStateSpace(nn.Module):
    """One selective scan over tokens sorted by their prompts, which are added to its C; (B, H, W, C) to the same shape.

    Each token is routed to one of T prompts, whose table is `embeddingB` (T, rank) times `embeddingA` (rank, N). In
    training the choice is drawn (Gumbel-softmax, its gradient straight through).
    """

    def __init__(
        self, dim: int, d_state: int, expand: float, rank: int, prompts: int, eval_noise: bool = False
    ) -> None:
        super().__init__()
        width = int(dim * expand)
        self.eval_noise = eval_noise
        self.in_proj = nn.Conv2d(dim, width, 1)
        self.cpe = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.route = nn.Sequential(nn.Linear(dim, dim // 3), nn.GELU(), nn.Linear(dim // 3, prompts))
        self.embeddingA = nn.Parameter(torch.empty(rank, d_state).uniform_(-1 / rank, 1 / rank))
        self.embeddingB = nn.Parameter(torch.empty(prompts, rank).uniform_(-1 / prompts, 1 / prompts))
        self.core = SelectiveRoutes(width, 1, d_state, math.ceil(width / 16))
        self.out_norm = nn.LayerNorm(width)
        self.out_proj = nn.Linear(width, dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        grid = (x_BHWC.shape[1], x_BHWC.shape[2])
        choice_BLT = self.choose(x_BHWC.flatten(1, 2))
        prompt_BLN = choice_BLT @ (self.embeddingB @ self.embeddingA)
        routes = sort_tokens(choice_BLT.argmax(-1), grid)
        u_BHWD = convolve_picture(self.in_proj, x_BHWC)
        u_BHWD = u_BHWD * torch.sigmoid(convolve_picture(self.cpe, u_BHWD))
        y_B1LD = self.core.steps(u_BHWD.flatten(1, 2), routes, prompt_BSN=prompt_BLN)
        return self.out_proj(self.out_norm(place(y_B1LD, routes, "sum"))).unflatten(1, grid)

    def choose(self, x_BLC: Tensor) -> Tensor:
        """Return 1 at the prompt of every token, else 0; gradients are those of the probabilities."""
        logits_BLT = F.log_softmax(self.route(x_BLC), dim=-1)
        if self.training or self.eval_noise:
            return F.gumbel_softmax(logits_BLT, hard=True, dim=-1)
        soft_BLT = logits_BLT.exp()
        hard_BLT = torch.zeros_like(soft_BLT).scatter_(-1, soft_BLT.argmax(-1, keepdim=True), 1.0)
        return hard_BLT - soft_BLT.detach() + soft_BLT


def sort_tokens(group_BL: Tensor, grid: tuple[int, int]) -> Routes:
    """Return one route per picture, over the tokens in the order of their groups and in raster order inside a group."""
    index_BL = group_BL.argsort(dim=1, stable=True)
    steps_BL = torch.arange(index_BL.shape[1], device=index_BL.device).expand_as(index_BL)
    inverse_BL = torch.empty_like(index_BL).scatter_(1, index_BL, steps_BL)
    return Routes(grid, index_BL[:, None], inverse_BL[:, None], (1, 1))


class DepthwiseFFN(nn.Module):
    """Linear, GELU, plus GELU of a depthwise convolution of that, linear; (B, H, W, C) to the same shape."""

    def __init__(self, dim: int, hidden: int, kernel: int = 5) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x_BHWC = F.gelu(self.fc1(x_BHWC))
        return self.fc2(x_BHWC + F.gelu(convolve_picture(self.dwconv, x_BHWC)))


class SpatialGateFFN(nn.Module):
    """Linear, GELU, one half times a depthwise 5x5 convolution of the normalised other, linear.

    The spatial-gate feed-forward network of DAT (Chen et al., arXiv 2308.03364). (B, H, W, C) to the same shape.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        half = hidden // 2
        self.fc1 = nn.Linear(dim, hidden)
        self.norm = nn.LayerNorm(half)
        self.conv = nn.Conv2d(half, half, 5, padding=2, groups=half)
        self.fc2 = nn.Linear(half, dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        value_BHWC, gate_BHWC = F.gelu(self.fc1(x_BHWC)).chunk(2, dim=-1)
        return self.fc2(value_BHWC * convolve_picture(self.conv, self.norm(gate_BHWC)))

"""Softmax attention inside windows along the route.

Shape legend: B batch, L steps, N windows, W window length, H heads, E channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.mixers.mixer import Mixer


class WindowAttention(Mixer):
    """Multi-head attention among `window` successive tokens of the route, with a learned relative position bias.

    The sequence is cut into windows, the last one padded and masked; `shift` starts the first window that many
    tokens early, so that blocks with alternating shifts connect windows (Swin, arXiv 2103.14030, section 3.2,
    along a sequence instead of a plane). Heads have `head_dim` channels each, at least one head.
    """

    def __init__(self, dim: int, window: int = 64, head_dim: int = 16, shift: int = 0) -> None:
        super().__init__()
        if not 0 <= shift < window:
            raise UsageError(f"The attention mixer's shift must be in [0, window={window}), not {shift}")
        self.window, self.shift, self.head_dim = window, shift, head_dim
        self.heads = max(1, dim // head_dim)
        self.width = self.heads * head_dim
        self.qkv = nn.Linear(dim, 3 * self.width)
        self.bias = nn.Parameter(torch.zeros(self.heads, 2 * window - 1))
        self.out_proj = nn.Linear(self.width, dim)
        distance = torch.arange(window)[:, None] - torch.arange(window)[None, :] + window - 1
        self.register_buffer("distance", distance, persistent=False)

    def enter(self, x_BLC: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.qkv(x_BLC), None

    def mix(self, s_BLD: Tensor, order_L: Tensor | None = None) -> Tensor:
        batch, length, _ = s_BLD.shape
        before = self.shift if length > self.window else 0
        after = -(length + before) % self.window
        num_windows = (length + before + after) // self.window
        s = F.pad(s_BLD, (0, 0, before, after))
        qkv = s.view(batch * num_windows, self.window, 3, self.heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        assert isinstance(self.distance, Tensor)
        mask = self.bias[:, self.distance]
        if before or after:
            step = torch.arange(-before, length + after, device=s.device)
            real = ((step >= 0) & (step < length)).view(num_windows, 1, 1, self.window)
            blocked = torch.zeros_like(real, dtype=mask.dtype).masked_fill(~real, float("-inf"))
            mask = (mask + blocked).repeat(batch, 1, 1, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype))
        y = y.transpose(1, 2).reshape(batch, num_windows * self.window, self.width)
        return y[:, before : before + length]

    def leave(self, y_BLD: Tensor, gate_BLD: Tensor | None) -> Tensor:
        return self.out_proj(y_BLD)

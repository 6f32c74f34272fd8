"""Small networks for the tests of padding and tiling."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Same(nn.Module):
    """The identity; remembers the shapes it saw and whether it trained."""

    trainable = False

    def __init__(self, multiple: int = 1) -> None:
        super().__init__()
        self.multiple = multiple
        self.shapes: list[tuple[int, ...]] = []
        self.trained: list[bool] = []

    def forward(self, x_BCHW: Tensor) -> Tensor:
        height, width = x_BCHW.shape[-2:]
        assert height % self.multiple == 0
        assert width % self.multiple == 0
        self.shapes.append(tuple(x_BCHW.shape))
        self.trained.append(self.training)
        return x_BCHW.clone()


class Strided(nn.Module):
    """Depends on the phase of its input modulo 4 and on no pixel outside its 4 x 4 cell."""

    multiple = 4
    trainable = True

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Conv2d(3, 24, 4, stride=4)
        self.up = nn.ConvTranspose2d(24, 3, 4, stride=4)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.up(self.down(x_BCHW))

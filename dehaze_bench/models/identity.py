"""The hazy input itself, as a row that every table can carry."""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor


class Identity(nn.Module):
    """Return the image unchanged."""

    trainable = False
    multiple = 1

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return image_BCHW

"""Luma as restoration papers score it."""

from __future__ import annotations

from torch import Tensor

# BT.601 limited range on 8-bit scale: 16 for black, 235 for white.
_WEIGHTS = (65.481, 128.553, 24.966)
_OFFSET = 16.0


def luma(rgb_CHW: Tensor) -> Tensor:
    """Return Y of BT.601 limited range, (1, H, W), of RGB in [0, 1]; it runs from 16/255 to 235/255."""
    red, green, blue = (weight * channel for weight, channel in zip(_WEIGHTS, rgb_CHW, strict=True))
    return ((red + green + blue + _OFFSET) / 255.0).unsqueeze(0)

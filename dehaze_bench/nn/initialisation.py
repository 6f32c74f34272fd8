"""Initial values that several published networks share."""

from __future__ import annotations

import torch.nn as nn


def init_linear(module: nn.Module) -> None:
    """Draw the weight of a linear layer from a normal distribution cut at 2, std 0.02, and zero its bias.

    For `network.apply`: the rule of DeiT, kept by Swin, VMamba and their descendants.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

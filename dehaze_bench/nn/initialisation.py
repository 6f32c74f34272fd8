"""Initial values that several published networks share."""

from __future__ import annotations

import math

import torch.nn as nn


def init_linear(module: nn.Module) -> None:
    """Draw the weight of a linear layer from a normal distribution cut at 2, std 0.02, and zero its bias.

    For `network.apply`: the rule of DeiT, kept by Swin, VMamba and their descendants.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def init_deep(module: nn.Module, depth: float) -> None:
    """Draw the weights of convolutions from Glorot's normal distribution times (8 depth)^(-1/4), and zero the biases.

    The rule of DehazeFormer and gUNet for residual blocks, where `depth` counts the blocks of the network (DeepNet,
    arXiv 2203.00555); a depth of 1/8 is Glorot's rule itself.
    """
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            fan_in, fan_out = conv.weight[0].numel(), conv.weight.shape[0] * conv.weight[0, 0].numel()
            nn.init.trunc_normal_(conv.weight, std=(8 * depth) ** -0.25 * math.sqrt(2 / (fan_in + fan_out)))
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

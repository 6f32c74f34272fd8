"""Channel gates of small networks, which one closed ReLU would cut off."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from dehaze_bench.nn.feature_attention import ChannelGate

Network = TypeVar("Network", bound=nn.Module)


def opened(network: Network) -> Network:
    """Return the network with the ReLU of every channel gate open."""
    for module in network.modules():
        if isinstance(module, ChannelGate):
            bias = module.ca[0].bias
            assert isinstance(bias, nn.Parameter)
            with torch.no_grad():
                bias.add_(1)
    return network

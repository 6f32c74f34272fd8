"""Build backbones as the command line does, count and train them."""

from __future__ import annotations

from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

CONF = Path(__file__).resolve().parents[3] / "conf" / "model" / "backbone"


def backbone(name: str, device: str = "meta", **arguments: object) -> nn.Module:
    """Return the backbone of conf/model/backbone/NAME.yaml, without memory for its tensors by default."""
    make = instantiate(OmegaConf.load(CONF / f"{name}.yaml"), _convert_="all")
    with torch.device(device):
        network: nn.Module = make(**arguments)
    return network


def count(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def learns(network: nn.Module, *inputs: Tensor) -> None:
    """Assert that every parameter gets a finite gradient that is not zero everywhere."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():  # nothing hides behind an initial zero
            parameter.add_(0.02 * torch.randn_like(parameter))
    out = network(*inputs)
    assert torch.isfinite(out).all()
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name

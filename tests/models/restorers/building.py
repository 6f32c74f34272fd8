"""Build restorers as the command line does, and count them."""

from __future__ import annotations

from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

import dehaze_bench.ops.selective_scan  # noqa: F401 - the counting rules name this operator
from dehaze_bench.counting import count_macs

CONF = Path(__file__).resolve().parents[3] / "conf" / "model"


def restorer(name: str, device: str = "meta", **arguments: object) -> nn.Module:
    """Return the network of conf/model/NAME.yaml, without memory for its tensors by default."""
    with torch.device(device):
        network: nn.Module = instantiate(OmegaConf.load(CONF / f"{name}.yaml"), _convert_="all", **arguments)
    return network


def dense_gmacs(name: str) -> float:
    """Return the multiply-accumulates of convolutions and matrix products at 256 x 256, in thousand millions."""
    return count_macs(restorer(name), rule="dense") / 1e9

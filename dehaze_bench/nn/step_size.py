"""Starting values of the step size of selective state spaces."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def draw_step_bias(*shape: int, low: float = 1e-3, high: float = 0.1, floor: float = 1e-4) -> Tensor:
    """Return biases for which softplus(bias) is log-uniform in [low, high] (Mamba, arXiv 2312.00752, section 3.6)."""
    step = torch.exp(torch.rand(shape) * (math.log(high) - math.log(low)) + math.log(low)).clamp(min=floor)
    return step + torch.log(-torch.expm1(-step))

"""The state of a training run: all that a resume needs, and nothing that depends on how many processes make it.

What is not here is not needed: data, learning rate and random draws are pure functions of the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


@dataclass
class TrainState:
    """Model, optimiser, averaged weights, loss scaler, step, last and best evaluation, skipped steps, seconds.

    `model` is the bare network, whose names and tensors are saved and evaluated; `run` is what the loop calls: the
    network itself, or what wraps it to compile it or to average gradients over processes. `loss` is the mean that was
    logged last, `window` what is to go into the next line.
    """

    model: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    ema: AveragedModel | None = None
    step: int = 0
    evaluated: int = 0
    best: dict[str, float] = field(default_factory=dict)
    skipped: int = 0
    seconds: float = 0.0
    loss: float | None = None
    window: dict[str, float] = field(default_factory=dict)
    run: nn.Module = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.run is None:
            self.run = self.model

    @property
    def eval_model(self) -> nn.Module:
        """The network to evaluate: the averaged one where averaging is on."""
        return self.ema.module if self.ema is not None else self.model

    def content(self) -> dict[str, Any]:
        """Return tensors and plain values, those of the live state: to be written before the next step."""
        return {
            "step": self.step,
            "evaluated": self.evaluated,
            "best": self.best,
            "skipped": self.skipped,
            "seconds": self.seconds,
            "loss": self.loss,
            "window": self.window,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
        }

    def restore(self, content: Mapping[str, Any]) -> None:
        """Go on from what `content` returned."""
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(content["ema"])
        for name in ("step", "evaluated", "best", "skipped", "seconds", "loss", "window"):
            setattr(self, name, content[name])


def averaged(model: nn.Module, decay: float | None) -> AveragedModel | None:
    """Return an exponential moving average of the weights, or None where `decay` is None."""
    if decay is None:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

"""The state of a training run and its checkpoint file.

What is not here is not needed: data, learning rate and random draws are pure functions of the step.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dehaze_bench.errors import JobError


@dataclass
class TrainState:
    """Everything that a resume needs: model, optimiser, averaged weights, loss scaler, step, best evaluation."""

    model: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    ema: AveragedModel | None = None
    step: int = 0
    best: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def eval_model(self) -> nn.Module:
        """The network to evaluate: the averaged one where averaging is on."""
        return self.ema.module if self.ema is not None else self.model

    def save(self, path: Path, run_id: str) -> None:
        """Write the checkpoint: temporary file, flush to disk, rename; a kill leaves the previous one whole."""
        content = {
            "schema": 1,
            "id": run_id,
            "step": self.step,
            "best": self.best,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
        }
        partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            with partial.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def load(self, path: Path, run_id: str) -> None:
        """Continue from a checkpoint; raises `JobError` as `read_checkpoint` does."""
        content = read_checkpoint(path, run_id)
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(content["ema"])
        self.step, self.best, self.seconds = content["step"], content["best"], content["seconds"]


def read_checkpoint(path: Path, run_id: str) -> dict[str, Any]:
    """Return the content of a checkpoint; raises `JobError` for a file that is torn or belongs to another run."""
    remedy = f"Delete {path} to start this run from step 0."
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = content["id"]
    except Exception as error:  # torch raises many kinds for a damaged file
        raise JobError(f"The checkpoint {path} cannot be read ({type(error).__name__}). {remedy}") from error
    if found != run_id:
        raise JobError(f"The checkpoint {path} belongs to run {found}, not {run_id}. {remedy}")
    return content


def averaged(model: nn.Module, decay: float | None) -> AveragedModel | None:
    """Return an exponential moving average of the weights, or None where `decay` is None."""
    if decay is None:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

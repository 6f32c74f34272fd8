"""Learning-rate schedules as pure functions of the step: a resume needs nothing but the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dehaze_bench.errors import UsageError


@dataclass(frozen=True)
class Constant:
    """Linear warm-up over `warmup` steps, then 1."""

    warmup: int = 0

    def __post_init__(self) -> None:
        if self.warmup < 0:
            raise UsageError(f"schedule.warmup={self.warmup} must be 0 or more")

    def __call__(self, step: int, steps: int) -> float:
        """Return the factor on the base learning rate at `step` of `steps` (from 0)."""
        return min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up over `warmup` steps, then half a cosine from 1 down to `floor` at the last step."""

    warmup: int = 0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1 or self.warmup < 0:
            raise UsageError(f"schedule: floor must be in [0, 1] and warmup >= 0, not {self.floor}, {self.warmup}")

    def __call__(self, step: int, steps: int) -> float:
        """Return the factor on the base learning rate at `step` of `steps` (from 0)."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, steps - 1 - self.warmup)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

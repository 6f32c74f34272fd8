"""Learning-rate schedules as pure functions of the step: a resume needs nothing but the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


@dataclass(frozen=True)
class MultiStep:
    """Linear warm-up over `warmup` steps, then 1, times `gamma` from each of the `milestones` on.

    Milestones are shares of the whole run, so that a shorter one keeps the shape of the schedule.
    """

    milestones: Sequence[float] = (0.5, 0.8, 0.9, 0.95)
    gamma: float = 0.5
    warmup: int = 0

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.gamma <= 0 or not all(0 < share < 1 for share in self.milestones):
            raise UsageError(
                f"schedule: milestones must be shares between 0 and 1, gamma > 0 and warmup >= 0, not "
                f"{list(self.milestones)}, {self.gamma} and {self.warmup}"
            )

    def __call__(self, step: int, steps: int) -> float:
        """Return the factor on the base learning rate at `step` of `steps` (from 0)."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return math.prod(self.gamma for share in self.milestones if step >= round(share * steps))


@dataclass(frozen=True)
class HeldCosine:
    """1 over a share `hold` of the whole run, then half a cosine down to `floor` at the last step.

    What the cyclic schedule of Restormer's line comes to, whose first cycle ends at the rate that it begins with.
    """

    hold: float = 0.4
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.hold < 1 or not 0 <= self.floor <= 1:
            raise UsageError(f"schedule: hold must be in [0, 1) and floor in [0, 1], not {self.hold}, {self.floor}")

    def __call__(self, step: int, steps: int) -> float:
        """Return the factor on the base learning rate at `step` of `steps` (from 0)."""
        start = round(self.hold * steps)
        return Cosine(floor=self.floor)(max(0, step - start), steps - start)

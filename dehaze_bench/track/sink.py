"""What a sink is, what it is told, and which sinks a configuration asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dehaze_bench.errors import UsageError, nearest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Image = npt.NDArray[np.uint8]  # (H, W, 3), RGB

Mode = Literal["disabled", "offline", "online"]


@dataclass(frozen=True)
class RunInfo:
    """What a sink knows of a run when it starts.

    `steps` is the last step to come (None when nothing is trained), `resumed` the step whose state was loaded
    (0 for a fresh run): records of later steps are about to be written again.
    """

    id: str
    slug: str
    dir: Path
    steps: int | None = None
    resumed: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""


@dataclass(frozen=True)
class Picture:
    """One test image with its restoration; all arrays are uint8 RGB (H, W, 3) of one size."""

    name: str
    hazy: Image
    restored: Image
    truth: Image | None = None


@dataclass(frozen=True)
class EvaluationView:
    """One evaluation at one step: means, a row of metrics per image, and pictures of a few of them.

    `name` is the test set, or "val" for held-out training images; sinks log the means as `<name>/<metric>`.
    """

    name: str
    step: int
    means: Mapping[str, float]
    rows: Sequence[tuple[str, Mapping[str, float]]] = ()
    pictures: Sequence[Picture] = ()


class Sink(Protocol):
    """A place that is told what happens. Only rank 0 has sinks; a sink never raises once it has started."""

    def start(self, run: RunInfo) -> None:
        """Open for a run; called once, before anything else."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of one step; known: loss, lr, images_per_second, data_wait (a share of time, 0 to 1)."""

    def evaluation(self, view: EvaluationView) -> None:
        """One finished evaluation."""

    def finish(self, result: Mapping[str, Any]) -> None:
        """The content of result.json, or of failed.json (which has an "error"); called once, last."""


def make_sinks(
    console: bool = True,
    jsonl: bool = True,
    mode: Mode = "disabled",
    project: str = "dehaze-bench",
    entity: str | None = None,
    max_images: int = 8,
    patience: float = 15.0,
) -> list[Sink]:
    """The sinks of a run, from the plain values of `conf/track/*.yaml`; `mode` is that of W&B.

    `patience` is how many seconds a run waits for W&B, all in all.

    Raises:
        UsageError: unknown mode, a number out of range, W&B without metrics.jsonl.
    """
    check_mode(mode)
    if max_images < 0:
        raise UsageError(f"track.max_images={max_images} must be 0 or more")
    if not patience > 0:
        raise UsageError(f"track.patience={patience} must be positive: the seconds that a run may wait for W&B")
    if mode != "disabled" and not jsonl:
        raise UsageError(f"track.mode={mode} needs track.jsonl=true: what W&B misses is sent from metrics.jsonl later")
    sinks: list[Sink] = []
    if jsonl:
        from dehaze_bench.track.jsonl import JsonlSink

        sinks.append(JsonlSink())
    if console:
        from dehaze_bench.track.console import ConsoleSink

        sinks.append(ConsoleSink())
    if mode != "disabled":
        from dehaze_bench.track.wandb import WandbSink

        sinks.append(WandbSink(mode=mode, project=project, entity=entity, max_images=max_images, patience=patience))
    return sinks


def check_mode(mode: str) -> None:
    """Raise `UsageError` for a mode that W&B does not have."""
    modes = ("disabled", "offline", "online")
    if mode not in modes:
        raise UsageError(f"unknown track.mode '{mode}'. {nearest(mode, modes)}")

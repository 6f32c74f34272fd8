"""What a log line says: means over the steps since the last one, and once, that the run waits for its data."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from dehaze_bench.engine.distributed import World

DATA_BOUND = 0.25  # a run that waits for data for a larger share of its time is told so
DATA_BOUND_AFTER = 30.0  # seconds: the first batches come late in every run
_LOG = logging.getLogger(__name__)


class Window:
    """Means over the steps since the last log line, and how long the whole run waited for data.

    A run that goes on from a checkpoint begins with the losses since the last line, `content`, and with clocks at zero.
    """

    def __init__(self, content: Mapping[str, float], world: World) -> None:
        self.loss, self.steps = content.get("loss", 0.0) if world.first else 0.0, int(content.get("steps", 0))
        self.images, self.wait, self.seconds = 0, 0.0, 0.0
        self.waited, self.lasted, self.told = 0.0, 0.0, False

    def add(self, loss: float | None, images: int, wait: float, seconds: float) -> None:
        """Count a step; one that was skipped has no loss."""
        self.loss += loss or 0.0
        self.steps += loss is not None
        self.images += images
        self.wait += wait
        self.seconds += seconds

    def content(self, world: World) -> dict[str, float]:
        """Return what a checkpoint keeps, the same for any number of processes."""
        return {"loss": world.sum(self.loss)[0], "steps": self.steps}

    def flush(self, world: World) -> dict[str, float]:
        """Return mean loss, images per second and the share of time spent waiting for data, and start again."""
        loss, images, wait, seconds = world.sum(self.loss, self.images, self.wait, self.seconds)
        wait, elapsed = wait / world.size, max((wait + seconds) / world.size, 1e-9)
        out = {"loss": loss / max(1, self.steps), "images_per_second": images / elapsed, "data_wait": wait / elapsed}
        self.loss, self.steps, self.images, self.wait, self.seconds = 0.0, 0, 0, 0.0, 0.0
        self.waited, self.lasted = self.waited + wait, self.lasted + elapsed
        return out

    def warn_if_data_bound(self, world: World) -> None:
        """Say once that the run waits for data more than it should."""
        if world.first and not self.told and self.lasted > DATA_BOUND_AFTER and self.waited > DATA_BOUND * self.lasted:
            self.told = True
            _LOG.warning(
                "This run waits for data for %.0f %% of its time: raise runtime.workers, or prepare a packed copy of "
                "the data (`dehaze-bench data`).",
                100 * self.waited / self.lasted,
            )

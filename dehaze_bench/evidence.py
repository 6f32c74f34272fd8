"""What an evaluation leaves in a run directory besides numbers: a row per image and video, and pictures of a few."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from dehaze_bench.engine import evaluation
from dehaze_bench.infer.picture import to_8bit, write_png
from dehaze_bench.results import record as records
from dehaze_bench.track.pictures import choose
from dehaze_bench.track.sink import Picture

UNMEASURED = 16  # pictures that are kept of a test set without truth; the verb restore writes all


def write_rows(folder: Path, scores: evaluation.Evaluated) -> None:
    """Write `per_image.csv` and, for videos, `per_clip.csv`, in which the temporal error of a single frame is nan."""
    columns = list(scores.rows[0][1])
    rows = [records.ImageRow(name, values) for name, values in scores.rows]
    records.write_per_image(folder / records.PER_IMAGE, columns, rows)
    if scores.clips:
        blank = dict.fromkeys(scores.columns, math.nan)
        rows = [records.ImageRow(name, blank | values) for name, values in scores.clips]
        records.write_per_image(folder / records.PER_CLIP, scores.columns, rows)


def write_pictures(
    folder: Path, scores: evaluation.Evaluated, restore: evaluation.Restore, testset: Any, protocol: Any
) -> list[Picture]:
    """Restore a few images once more, write them to `folder` and return them: a fixed sample, the worst and the best.

    Without truth there is neither worst nor best: the sample is larger then.
    """
    metric, higher = next(iter(protocol.higher_is_better.items()))
    known = [values[metric] for _, values in scores.rows if metric in values]
    rows = choose(known, higher) if known else choose([0.0] * len(scores.rows), True, fixed=UNMEASURED, extreme=0)
    pictures = []
    for row in rows:
        frame = evaluation.restore_one(restore, testset, protocol, *scores.places[row])
        truth = None if frame.clear_CHW is None else to_8bit(frame.clear_CHW)
        shown = Picture(frame.name, to_8bit(frame.hazy_CHW), to_8bit(frame.restored_CHW), truth)
        for kind, levels in (("", shown.restored), ("hazy", shown.hazy), ("clear", shown.truth)):
            if levels is not None:
                write_png(levels, folder / kind / f"{shown.name}.png")
        pictures.append(shown)
    return pictures

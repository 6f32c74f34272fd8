"""Numbers that are not finite: one error with step, loss, files and layer; a reproducer that works; skipping."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from tests.faults import runs
from tests.faults.conftest import Note

pytestmark = [pytest.mark.slow, pytest.mark.faults]

LEFT_OUT = ("seed", "haze", "indoor_beta", "indoor_airlight", "outdoor_beta", "outdoor_airlight", "airlight_tint")
POISONED = [
    "dataset._target_=tests.faults.poison.Poisoned", "+dataset.bad=[3]", "dataset.scenes=32", "~dataset.cache_scenes",
    *(f"~dataset.{key}" for key in LEFT_OUT), "train.select=last", "train.val_images=0",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEHAZE_TARGETS", "tests")


def poisoned(folder: Path, *more: str) -> list[str]:
    """Return the arguments of a run on scenes of which one holds a NaN."""
    given = runs.arguments(folder, *POISONED, *more)
    return [text for text in given if not text.startswith("dataset.cache_scenes")]


def reproduce(given: list[str], folder: Path) -> tuple[dict[str, Any], float]:
    """Do the step of the reproducer again; return its content and the loss."""
    (path,) = folder.glob("nonfinite-step*.pt")
    found = torch.load(path, weights_only=True)
    cfg = compose_run(given[1:]).cfg
    network = build.model(cfg)
    network.load_state_dict(found["weights"])
    torch.manual_seed(found["draw"])
    with torch.no_grad():
        losses = [
            build.loss(cfg)(network(hazy), clear) for hazy, clear in zip(found["hazy"], found["clear"], strict=True)
        ]
    return found, float(sum(losses))


def test_a_learning_rate_that_is_far_too_large(tmp_path: Path, note: Note) -> None:
    given = runs.arguments(tmp_path, "optimizer.lr=1e30", "train.clip=null", "schedule=constant")
    failed = runs.run(given)
    assert failed.code == 1 and "Traceback" not in failed.said, failed.said
    told = re.search(r"The loss is (nan|inf) at step (\d+), on (\S+), (\S+)\. .*layer.* '([\w.]+)'", failed.last)
    assert told is not None, failed.last
    assert all(name.startswith(("room_", "street_")) for name in told.group(3, 4))
    assert "optimizer.lr" in failed.last
    found, loss = reproduce(given, runs.folder_of(tmp_path))
    assert not math.isfinite(loss) and found["step"] == int(told[2]) and found["names"] == list(told.group(3, 4))
    failure = json.loads((runs.folder_of(tmp_path) / "failed.json").read_text())
    assert failure["exit_code"] == 1
    text = failed.last.replace(str(tmp_path), "DIR")
    note("loss not finite: optimizer.lr=1e30", text, 1, "a run that cannot go on so", failed.seconds)


def test_a_picture_with_a_nan_is_named_and_can_be_skipped(tmp_path: Path, note: Note) -> None:
    given = poisoned(tmp_path)
    failed = runs.run(given)
    assert failed.code == 1 and "Traceback" not in failed.said, failed.said
    told = re.search(r"The loss is nan at step (\d+), on (\S+), (\S+)\. The batch itself is not finite", failed.last)
    assert told is not None and any(re.fullmatch(r"(room|street)_3_.*", name) for name in told.group(2, 3)), failed.last
    found, loss = reproduce(given, runs.folder_of(tmp_path))
    assert math.isnan(loss) and any(hazy.isnan().any() for hazy in found["hazy"])
    text = failed.last.replace(str(tmp_path), "DIR")
    note("a picture with a NaN", text, 1, "the run stops before the weights are touched", failed.seconds)

    skipping = [*given, "train.nonfinite=skip", f"paths.runs={tmp_path}/skip/runs"]
    done = runs.finish(skipping)
    folder = runs.folder_of(tmp_path / "skip")
    skipped = max(line.get("skipped", 0) for line in runs.read_metrics(folder))
    assert skipped == len(re.findall(r"Step \d+ is skipped", done.said)) > 1
    stopped = runs.run([*skipping, "train.max_skipped=1", f"paths.runs={tmp_path}/limit/runs"])
    assert stopped.code == 1 and "1 steps were skipped already (train.max_skipped)" in stopped.last, stopped.said
    said = next(line for line in done.said.splitlines() if "is skipped" in line)
    note("the same with train.nonfinite=skip", said, 0, f"{skipped:.0f} steps", done.seconds)
    note("the same with train.max_skipped=1", "stopped at the second such step", 1, "1 step", stopped.seconds)


def test_skipping_survives_a_kill(tmp_path: Path, note: Note) -> None:
    given = poisoned(tmp_path, "train.nonfinite=skip")
    killed = runs.run(given, ("*/metrics.jsonl", 10, "kill:0"))
    assert killed.code == -9
    resumed = runs.finish(given)
    runs.finish([*given, f"paths.runs={tmp_path}/whole/runs"])
    assert runs.differences(runs.folder_of(tmp_path / "whole"), runs.folder_of(tmp_path)) == []
    note(
        "kill -9 of a run that skips steps",
        "resumed; as undisturbed, the count too",
        -9,
        "steps since the save",
        killed.seconds + resumed.seconds,
    )

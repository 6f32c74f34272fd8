"""A user's own schedules with planted faults, and an experiment whose rows choose them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests import tiny

MODULE = """\
import os, signal, time


def crash(step, steps):
    if step == 2:
        raise RuntimeError("planted crash")
    return 1.0


def lookup(step, steps):
    return {}["planted"] if step == 1 else 1.0


def killed(step, steps):
    if step == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1.0


def hanging(step, steps):
    if step == 2:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        time.sleep(3600)
    return 1.0


def slow(step, steps):
    with open("steps.txt", "a") as file:
        file.write(f"{step} ")
    time.sleep(2)
    return 1.0


def cancelled(step, steps):
    if step == 2:
        os.system("scancel --signal=KILL " + os.environ["SLURM_ARRAY_JOB_ID"] + "_" + os.environ["SLURM_ARRAY_TASK_ID"])
        time.sleep(3600)
    return 1.0
"""
FAULTS = ("crash", "lookup", "killed", "hanging", "slow", "cancelled")


def write(folder: Path, name: str, rows: list[tuple[str, list[str]]]) -> dict[str, str]:
    """Write the module, its configs and an experiment of `rows`; return the environment to run it in."""
    (folder / "planted.py").write_text(MODULE, encoding="utf-8")
    (folder / "conf" / "schedule").mkdir(parents=True, exist_ok=True)
    for fault in FAULTS:
        text = f"_target_: planted.{fault}\n_partial_: true\n"
        (folder / "conf" / "schedule" / f"{fault}.yaml").write_text(text, encoding="utf-8")
    base = [text for text in tiny.overrides(folder) if not text.startswith("runtime.isolate")]
    lines = [f"name: {name}", f"base: {json.dumps(base)}", "columns: [params, psnr]", "rows:"]
    lines += [f"  - {json.dumps(_row(label, overrides))}" for label, overrides in rows]
    (folder / f"{name}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(Path(__file__).resolve().parents[2])]),
        "DEHAZE_TARGETS": "planted",
        "OMP_NUM_THREADS": "1",
    }


def _row(label: str, overrides: list[str]) -> dict[str, object]:
    seeds = [int(text.partition("=")[2]) for text in overrides if text.startswith("seed=")]
    return {"label": label, "overrides": [t for t in overrides if not t.startswith("seed=")], "seeds": seeds or [0]}


NETWORK = [*tiny.NETWORK, *tiny.TRAINING]


def twelve() -> list[tuple[str, list[str]]]:
    """Nine sound rows and three that fail, each in its own way, the faults spread among them."""
    sound = [(f"sound {k}", [*NETWORK, f"seed={k}"]) for k in range(6)]
    sound += [(f"hazy {k}", ["model=identity", f"seed={k}"]) for k in range(3)]
    infinite = [*NETWORK, "optimizer.lr=1e30", "train.clip=null"]
    faults = [("crash", [*NETWORK, "schedule=crash"]), ("lookup", [*NETWORK, "schedule=lookup"]), ("loss", infinite)]
    rows = [*sound[:1], faults[0], *sound[1:5], faults[1], *sound[5:], faults[2]]
    assert len(rows) == 12
    return rows

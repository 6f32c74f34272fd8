"""Tables and reports of many runs: seconds, CPU seconds and size, beside the bare start of the program.

    python benchmarks/results.py [--quick] [--runs N] [--images N] [--json FILE]

Writes finished runs with made-up numbers into a temporary folder (200 runs of 500 images, five seeds a row, two
pictures a run; all files that a run leaves but weights), then calls the command line on them as a user would:

start   `dehaze-bench --help`
cold    `dehaze-bench table`, which must compose every run first
warm    the same again, with the identities that the first has kept
tests   the same with `--baseline`: bootstrap, Wilcoxon's and Friedman's tests over all rows
report  `dehaze-bench report` with that table, which composes every run for another folder; its size is what it wrote
again   the same again
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from measuring import describe_machine

ROOT = Path(__file__).resolve().parents[1]
SEEDS = 5
REPORTS = ("report", "again")
EXPERIMENT = """\
name: many
title: Many runs
base: [dataset=deadleaves, testset=photos, "paths.runs={folder}/runs", "paths.tables={folder}/tables"]
seeds: [{seeds}]
rows:
{rows}
columns: [params, macs, psnr, ssim, ciede2000]
sort: psnr
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Time tables and reports of many runs.")
    parser.add_argument("--quick", action="store_true", help="40 runs of 100 images")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    runs, images = (40, 100) if given.quick else (given.runs, given.images)
    for key, value in describe_machine(torch.device("cpu")).items():
        print(f"{key}: {value}")
    with tempfile.TemporaryDirectory() as name:
        found, size = measure(Path(name), runs, images)
    print(f"{runs} runs of {images} images")
    print("| call | seconds | CPU seconds | of them beyond the start, per run | MB |\n| :-- | --: | --: | --: | --: |")
    for call, (seconds, cpu) in found.items():
        beyond = f"{(cpu - found['start'][1]) / runs * 1e3:.1f} ms" if call != "start" else ""
        print(f"| {call} | {seconds:.1f} | {cpu:.1f} | {beyond} | {f'{size / 1e6:.1f}' if call in REPORTS else ''} |")
    if given.json:
        given.json.write_text(
            json.dumps({"runs": runs, "images": images, "calls": found, "bytes": size}, indent=2) + "\n"
        )


def measure(folder: Path, runs: int, images: int) -> tuple[dict[str, tuple[float, float]], int]:
    """Return seconds and CPU seconds of each call, and the bytes of the report."""
    sys.path.insert(0, str(ROOT))
    from dehaze_bench import sweep
    from tests.results.fabricated import MIXERS, SCANS, fabricate_many

    places = [(mixer, scan) for scan in SCANS for mixer in MIXERS][: -(-runs // SEEDS)]
    rows = "\n".join(
        f'  - {{label: "{mixer}, {scan}", overrides: [model/mixer={mixer}, scan={scan}]}}' for mixer, scan in places
    )
    path = folder / "many.yaml"
    path.write_text(EXPERIMENT.format(folder=folder, seeds=", ".join(map(str, range(SEEDS))), rows=rows))
    names = [planned.name for planned in sweep.plan(str(path)).runs][:runs]
    (folder / "runs").mkdir()
    fabricate_many(folder / "runs", len(names), images, SEEDS, names)
    baseline = ["--baseline", "mamba, random" if ("mamba", "random") in places else f"{places[0][0]}, {places[0][1]}"]
    table = ["table", str(path)]
    report = ["report", str(folder / "runs"), str(path), "--out", str(folder / "report")]
    found = {
        "start": _call("--help"),
        "cold": _call(*table),
        "warm": _call(*table),
        "tests": _call(*table, *baseline),
        "report": _call(*report),
        "again": _call(*report),
    }
    return found, sum(file.stat().st_size for file in (folder / "report").rglob("*") if file.is_file())


def _call(*words: str) -> tuple[float, float]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "dehaze_bench", *words], cwd=ROOT, capture_output=True, text=True, env=dict(os.environ)
    )
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()

"""The verb `restore`: photographs and folders through the network of a run or a file of weights."""

from __future__ import annotations

import time
from pathlib import Path

from dehaze_bench import arguments, build, source
from dehaze_bench.arguments import Arguments
from dehaze_bench.compose import compose_run
from dehaze_bench.errors import UsageError
from dehaze_bench.infer import restore_folder
from dehaze_bench.infer.photos import PhotoResult


def run(argv: Arguments) -> int:
    """Restore a source folder or file into a target; 1 if a picture failed."""
    run_id, argv = arguments.assignment(argv, "run")
    tile, argv = arguments.assignment(argv, "tile")
    overlap, argv = arguments.assignment(argv, "overlap")
    frames, argv = arguments.assignment(argv, "frames")
    beside, argv = _switch(argv, "side_by_side")
    ensemble, argv = _switch(argv, "ensemble")
    device, argv = arguments.assignment(argv, "device")
    arguments.only_overrides("restore", [text for text in argv if text.startswith("-")])
    places = [text for text in argv if "=" not in text]
    if len(places) != 2:
        raise UsageError("restore needs a source and a target: dehaze-bench restore run=ID photos/ restored/")
    overrides = [text for text in argv if "=" in text] + ([f"runtime.device={device}"] if device else [])
    composed = compose_run(overrides) if run_id is None else source.compose_for(overrides, run_id)
    found = source.load(composed, run_id)
    target = build.device(composed.cfg)
    summary = restore_folder(
        found.network.to(target),
        Path(places[0]),
        Path(places[1]),
        tile=arguments.integer(tile, "tile"),
        overlap=arguments.integer(overlap, "overlap") or (32 if overlap is None else 0),
        device=target,
        frames=arguments.integer(frames, "frames"),
        side_by_side=beside,
        ensemble=ensemble,
        on_progress=_Progress(),
    )
    ignored = f", {len(summary.ignored)} other files left alone" if summary.ignored else ""
    print(f"{len(summary.done)} restored, {len(summary.failed)} failed{ignored}")
    return 1 if summary.failed else 0


def _switch(argv: Arguments, name: str) -> tuple[bool, Arguments]:
    value, argv = arguments.assignment(argv, name)
    if (value or "false").lower() not in ("true", "false"):
        raise UsageError(f"{name}={value} must be true or false.")
    return (value or "").lower() == "true", argv


class _Progress:
    """One line per photo: what became of it, the rate so far and the time left."""

    def __init__(self) -> None:
        self.started = time.perf_counter()

    def __call__(self, done: int, total: int, result: PhotoResult) -> None:
        elapsed = time.perf_counter() - self.started
        line = f"[{done}/{total}] {result.target or result.source}"
        line += f"  FAILED: {result.error}" if result.error else f"  {result.seconds:.1f} s"
        if done < total:
            left = round(elapsed / done * (total - done))
            line += f"  {done / elapsed:.2f} photos/s  ETA {left // 60}:{left % 60:02d}"
        print(line + "".join(f"  ({note})" for note in result.notes), flush=True)

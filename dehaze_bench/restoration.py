"""The verb `restore`: photographs and folders through the network of a run or a file of weights."""

from __future__ import annotations

from pathlib import Path

from dehaze_bench import arguments, build, source
from dehaze_bench.arguments import Arguments
from dehaze_bench.compose import compose_run
from dehaze_bench.errors import UsageError
from dehaze_bench.infer import restore_folder


def run(argv: Arguments) -> int:
    """Restore a source folder or file into a target; 1 if a picture failed."""
    run_id, argv = arguments.assignment(argv, "run")
    tile, argv = arguments.assignment(argv, "tile")
    overlap, argv = arguments.assignment(argv, "overlap")
    beside, argv = arguments.assignment(argv, "side_by_side")
    device, argv = arguments.assignment(argv, "device")
    arguments.only_overrides("restore", [text for text in argv if text.startswith("-")])
    if (beside or "false").lower() not in ("true", "false"):
        raise UsageError(f"side_by_side={beside} must be true or false.")
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
        side_by_side=(beside or "").lower() == "true",
        on_progress=lambda done, total, result: print(
            f"[{done}/{total}] {result.target or result.source}"
            + (f"  FAILED: {result.error}" if result.error else f"  {result.seconds:.1f} s")
            + "".join(f"  ({note})" for note in result.notes),
            flush=True,
        ),
    )
    ignored = f", {len(summary.ignored)} other files left alone" if summary.ignored else ""
    print(f"{len(summary.done)} restored, {len(summary.failed)} failed{ignored}")
    return 1 if summary.failed else 0

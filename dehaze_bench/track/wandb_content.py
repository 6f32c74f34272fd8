"""What W&B shows of a run besides its curves: tables with pictures, the scan, files; and what it says was refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dehaze_bench.errors import BenchError
from dehaze_bench.track.pictures import error_map

if TYPE_CHECKING:
    from dehaze_bench.track.sink import Image

PICTURE_COLUMNS = ("hazy", "restored", "truth", "error")
# Files of a run directory that are sent as they are. Weights stay here: their size and hash go along.
KEPT = (
    *("config.yaml", "env.json", "metrics.jsonl", "per_image.csv", "per_clip.csv"),
    *("result.json", "failed.json", "directions.json"),
)
_WEIGHTS = "best.safetensors"
LINK = "run:"  # a cell of this form and a run id becomes the address of that run


def picture_table(message: dict[str, Any], arrays: list[Image]) -> Any:
    """One row per test image with its metrics; the first rows carry pictures."""
    import wandb

    measured = {row[0]: row[1:] for row in message["rows"]}
    remaining = iter(arrays)
    table = wandb.Table(columns=["name", *PICTURE_COLUMNS, *message["metrics"]], allow_mixed_types=True)
    for shown in message["pictures"]:
        hazy, restored = next(remaining), next(remaining)
        cells = [wandb.Image(hazy), wandb.Image(restored), None, None]
        if shown["truth"]:
            truth = next(remaining)
            cells[2:] = [wandb.Image(truth), wandb.Image(error_map(restored, truth))]
        metrics = measured.pop(shown["name"], [None] * len(message["metrics"]))
        table.add_data(shown["name"], *cells, *metrics)
    for name, metrics in measured.items():
        table.add_data(name, *[None] * len(PICTURE_COLUMNS), *metrics)
    return table


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], base: str) -> Any:
    """A table of numbers and texts; links to runs lead to the project at `base`, or name a path where there is none."""
    import wandb

    data = [[_linked(cell, base) for cell in row] for row in rows]
    return wandb.Table(columns=list(columns), data=data, allow_mixed_types=True)


def _linked(cell: Any, base: str) -> Any:
    if not isinstance(cell, str) or not cell.startswith(LINK):
        return cell
    run_id, _, path = cell.removeprefix(LINK).partition(" ")
    return f"{base}/runs/{run_id}" if base else path


def picture(path: Path) -> Any:
    """A picture file as it is."""
    import wandb

    return wandb.Image(str(path))


def scan_picture(node: object, target: Path) -> Any:
    """How the scan of a run walks over a small grid; None for a network's own scan, or where matplotlib is missing."""
    if not isinstance(node, dict) or "_target_" not in node:
        return None
    try:
        from dehaze_bench.scans import catalogue
        from dehaze_bench.scans import picture as drawing

        entry = catalogue.from_node(str(node.get("name", "scan")), node)
        grid = entry.default(catalogue.SHOWN)
        drawing.write(drawing.draw(entry.routes(grid), grid), target)
    except (BenchError, ImportError):
        return None
    return picture(target)


def artifact(name: str, kind: str, paths: Sequence[Path], metadata: dict[str, Any]) -> Any:
    """Files under their names as one artifact; None for no files."""
    import wandb

    if not paths:
        return None
    made = wandb.Artifact(name, kind, metadata=metadata)
    for path in paths:
        made.add_file(str(path), name=path.name)
    return made


def weights(folder: Path) -> dict[str, Any]:
    """Name, size and hash of the weights, by which they are known again; empty where there are none."""
    path = folder / _WEIGHTS
    if not path.is_file():
        return {}
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"weights": {"file": path.name, "bytes": path.stat().st_size, "sha256": digest}}


def refused(folder: Path) -> list[str]:
    """What W&B's own process wrote down as an error: it does not tell anybody else."""
    found = []
    for path in sorted(folder.glob("logs/debug-internal.log")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if entry.get("level") == "ERROR":
                found.append(f"W&B reports {entry.get('msg')}" + (f" ({entry['error']})" if "error" in entry else ""))
    return found

"""The page docs/scans.md and its pictures: `python -m dehaze_bench.scans.page docs` (or `make docs`) makes them anew.

Everything on the page comes from `conf/scan`, from the docstrings of the orders, and from the statistics.
"""

from __future__ import annotations

import inspect
import io
import math
import pkgutil
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dehaze_bench import registry
from dehaze_bench.errors import BenchError
from dehaze_bench.scans import catalogue, picture, sheet
from dehaze_bench.scans.catalogue import COMPARED, Entry
from dehaze_bench.scans.grid import Grid, Walk
from dehaze_bench.scans.statistics import CLOSE_STEPS, ScanStatistics

FOLDER = "scans"
COLOURS = 64
HEADING = f"""\
# Scans

Every file of `conf/scan`, drawn and measured. Made by `make docs`; edit the files and docstrings, not this page.
`dehaze-bench ls scans` prints a summary, `dehaze-bench show scan=hilbert grid=16x16 out=scan.png` looks at any scan on
any grid.

**Pictures.** One panel per route; routes that are alike share one. Colour runs from the first step (dark) to the last
(light), a white ring marks the start, a black square the end. Thick lines are steps to a neighbour, thin ones jumps.
Grey tokens are not visited. Larger cells are a coarser grid. The frames of a volume lie side by side.

**Numbers**, on {sheet.form(COMPARED[2])}, volumes on {sheet.form(COMPARED[3])}:

- *locality*: the distance along the route, in steps, between two neighbours of the grid (4 in a plane, 6 in a volume),
  averaged over all pairs and routes. Padding steps count; of repeated visits the closest count; a pair of which a
  route visits one token or none is left out. "/ raster" divides by what raster order has on the same grid.
- *nearest*: the same with the best route for each pair: what one route separates, another may join. In a scan whose
  routes take turns (mode alternate) no block has all of them.
- *close*: the share of pairs at most {CLOSE_STEPS} steps apart, over all pairs and routes. It says what the mean hides:
  raster order is hard to beat in the mean, and a Hilbert curve, which keeps more neighbours close, pays with a few that
  are far apart.
- *jump*: the Euclidean distance, in cells, between tokens visited one after the other.

Walks over coarser grids are measured on those and left out of the scan's own locality; walks over channels are not
measured. Orders that are found anew in every forward pass have no statistics: their pictures show one example.
"""


def main(argv: Sequence[str]) -> int:
    """Write scans.md and scans/*.png into the folder that is named; return the exit code."""
    if len(argv) != 1:
        print("usage: python -m dehaze_bench.scans.page FOLDER", file=sys.stderr)
        return 2
    try:
        write(Path(argv[0]))
    except BenchError as error:
        print(f"page: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def write(folder: Path) -> None:
    """Write the page and its pictures under `folder`; pictures of scans that are gone are taken away."""
    found = packaged()
    pictures = folder / FOLDER
    pictures.mkdir(parents=True, exist_ok=True)
    for path in pictures.glob("*.png"):
        path.unlink()
    for entry in found:
        if entry.is_native:
            continue
        grid = entry.default(COMPARED) if entry.walks else COMPARED[2]
        routes = example(entry, grid) if entry.is_dynamic else entry.routes(grid)
        (pictures / f"{entry.name}.png").write_bytes(small_png(routes, grid))
    (folder / "scans.md").write_text(text(found), encoding="utf-8")


def packaged() -> list[Entry]:
    """Return the scans of the packaged tree, without the user's."""
    return catalogue.entries(registry.conf_dirs()[-1:])


def text(found: Sequence[Entry]) -> str:
    """Return the page in Markdown; raises `UsageError` for a file that cannot be read or measured."""
    measured = {
        entry.name: None if entry.is_dynamic or entry.is_native else entry.measure(entry.default(COMPARED))
        for entry in found
    }
    groups = [
        ("Planes", [e for e in found if (s := measured[e.name]) is not None and len(s.grid) == 2]),
        ("Volumes", [e for e in found if (s := measured[e.name]) is not None and len(s.grid) == 3]),
        ("Found in the forward pass", [e for e in found if e.is_dynamic]),
        ("Of the network", [e for e in found if e.is_native]),
    ]
    parts = [
        HEADING,
        "## Summary\n",
        "Planes, then volumes, each sorted by locality and then by the nearest route, the smallest first.\n",
        _summary(found, measured),
    ]
    for title, members in groups:
        parts.append(f"## {title}\n")
        parts += [_section(entry, measured[entry.name]) for entry in members]
    return "\n".join(parts)


def small_png(routes: Sequence[tuple[Walk, np.ndarray]], grid: Grid) -> bytes:
    """Return the picture of the routes as a PNG of few colours: a third of the size."""
    from PIL import Image

    raw, packed = io.BytesIO(), io.BytesIO()
    picture.draw(routes, grid).savefig(raw, format="png", metadata={"Software": None})
    image = Image.open(raw).convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image.save(packed, format="png", optimize=True)
    return packed.getvalue()


def example(entry: Entry, grid: Grid) -> list[tuple[Walk, np.ndarray]]:
    """Return the routes of a scan whose order is found in the forward pass, for one made-up set of tokens.

    Each token holds its distance to a point.
    Draws by chance repeat: the generator is seeded, and left as it was.
    """
    import torch

    ys, xs = np.indices(grid)
    values = np.hypot(ys - 0.4 * grid[0], xs - 0.3 * grid[1]).reshape(1, -1, 1)
    routes = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for walk in catalogue.as_walks(catalogue.build(entry.order)):
            draw = getattr(walk.order, "draw", None)
            ids_KL = walk.order(walk.coarse(grid)) if draw is None else draw(torch.from_numpy(values), grid)[0].numpy()
            routes.append((walk, ids_KL))
    return routes


def _summary(found: Sequence[Entry], measured: dict[str, ScanStatistics | None]) -> str:
    rows = []
    for entry in found:
        numbers = measured[entry.name]
        cells = [f"[{entry.name}](#{entry.name})"]
        if numbers is None:
            cells += ["", "", "", "n/a", "n/a", "n/a", "n/a"]
            place: tuple[float, ...] = (9, 0, 0)
        else:
            away = numbers.locality
            cells += [
                sheet.form(numbers.grid),
                str(len(numbers.routes)),
                sheet.number(sum(route.mean_jump or 0 for route in numbers.routes) / len(numbers.routes)),
                sheet.number(away),
                sheet.times(away, numbers.raster),
                sheet.number(numbers.nearest),
                sheet.percent(numbers.close),
            ]
            place = (len(numbers.grid), *(math.inf if n is None else round(n, 6) for n in (away, numbers.nearest)))
        cells.append(entry.description)
        rows.append((place, entry.name, "| " + " | ".join(cells) + " |"))
    head = (
        "| scan | grid | routes | mean jump | locality | / raster | nearest | close | |\n"
        "| :-- | :-- | --: | --: | --: | --: | --: | --: | :-- |"
    )
    return "\n".join([head, *(row for *_, row in sorted(rows))]) + "\n"


def _section(entry: Entry, found: ScanStatistics | None) -> str:
    lines = [f"### {entry.name}\n", f"{entry.description.rstrip('.')}.\n"]
    if entry.is_native:
        return "\n".join(lines)
    lines.append(f"![routes of {entry.name}]({FOLDER}/{entry.name}.png)\n")
    lines.append(f"Merge: {entry.merge}. Mode: {entry.mode}.\n")
    lines.append(_source(entry))
    if found is None:
        lines.append(f"{sheet.DYNAMIC} The picture is one example: tokens that hold their distance to a point.\n")
        return "\n".join(lines)
    lines.append(f"On {sheet.form(found.grid)}: {sheet.facts(entry, found)}.\n")
    lines.append("| " + " | ".join(sheet.HEAD) + " |")
    lines.append("| :-- |" + " --: |" * (len(sheet.HEAD) - 2) + " :-- |")
    lines += ["| " + " | ".join(row) + " |" for row in sheet.rows(found)]
    return "\n".join([*lines, ""])


def _source(entry: Entry) -> str:
    """Return the functions behind the scan, each with the arguments it gets and with what its docstring says."""
    found: dict[str, list[str]] = {}
    for name, given in entry.calls:
        call = f"`{name.rpartition('.')[2]}({', '.join(f'{key}={value}' for key, value in given.items())})`"
        found.setdefault(name, [])
        if call not in found[name]:
            found[name].append(call)
    paragraphs = []
    for name, calls in found.items():
        words = " ".join((inspect.getdoc(pkgutil.resolve_name(name)) or "").split())
        words = re.sub(r" ?Raises `UsageError`[^.]*\.", "", words)
        paragraphs.append(f"{' and '.join(calls)} in `{name.rpartition('.')[0]}`: {words}\n")
    return "\n".join(paragraphs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

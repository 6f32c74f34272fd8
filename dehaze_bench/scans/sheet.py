"""The statistics of one scan as a table on the terminal, as JSON, and as rows of texts."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dehaze_bench.errors import UsageError
from dehaze_bench.scans import picture
from dehaze_bench.scans.catalogue import SHOWN, Entry
from dehaze_bench.scans.grid import Grid
from dehaze_bench.scans.statistics import CLOSE_STEPS, RouteStatistics, ScanStatistics

HEAD = ("route", "length", "padding", "visits", "mean jump", "max jump", "locality", "/ raster", "close", "directions")

LARGEST = 1 << 22
DYNAMIC = "Its order is found anew in every forward pass, from the tokens or by chance: statistics n/a."
SMALL_PRINT = (
    "locality: mean distance along the route between neighbours of the grid, in steps; close: share of such pairs "
    f"at most {CLOSE_STEPS} steps apart; jumps: Euclidean, in cells."
)


def look(entry: Entry, grid: str | None, out: str | None, as_json: bool) -> str:
    """Return the statistics of the scan on the grid as text, and draw its picture where `out` names a file.

    Raises `UsageError` for a grid that is none or does not fit, a scan without statistics, a picture that cannot be
    made or written.
    """
    if entry.is_dynamic and out is None:
        return json.dumps(_head(entry), indent=1) if as_json else f"{entry.name}  {entry.description}\n{DYNAMIC}"
    chosen = entry.default(SHOWN) if grid is None else parse_grid(grid, entry)
    found = entry.measure(chosen)
    if out is not None:
        picture.check_path(Path(out))
        picture.write(picture.draw(entry.routes(chosen), chosen), Path(out))
    if as_json:
        return json.dumps(to_json(entry, found) | ({} if out is None else {"picture": out}), indent=1)
    return to_text(entry, found) + ("" if out is None else f"\n{out}")


def parse_grid(text: str, entry: Entry) -> Grid:
    """Return the grid of `16x16` or `4x8x8`; raises `UsageError` for another text, and where the scan does not fit."""
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", text):
        raise UsageError(f"grid={text} is no grid: write rows x columns as 16x16, or frames x rows x columns as 4x8x8.")
    grid = tuple(int(number) for number in text.split("x"))
    if math.prod(grid) > LARGEST:
        raise UsageError(f"grid={text} has {math.prod(grid):,} tokens: statistics go up to {LARGEST:,}.")
    if entry.axes and len(grid) not in entry.axes:
        wanted = "16x16" if entry.axes == (2,) else "4x8x8"
        words = {2: "a plane (rows x columns)", 3: "a volume (frames x rows x columns)"}[entry.axes[0]]
        raise UsageError(
            f"Scan '{entry.name}' walks over {words}: grid={text} has {len(grid)} axes, try grid={wanted}."
        )
    return grid


def to_json(entry: Entry, found: ScanStatistics) -> dict[str, Any]:
    """Return everything about the scan on the grid, in JSON's types."""
    return {
        **_head(entry),
        "grid": list(found.grid),
        "num_routes": len(found.routes),
        "channel_walks": found.channel_walks,
        "visits": _visits(found.visits),
        "locality": found.locality,
        "locality_over_raster": _ratio(found.locality, found.raster),
        "nearest": found.nearest,
        "nearest_over_raster": _ratio(found.nearest, found.raster),
        "close": found.close,
        "joined": found.joined,
        "routes": [
            {
                "grid": list(route.grid),
                "strides": list(route.strides),
                "length": route.length,
                "padding": route.padding,
                "visited": route.visited,
                "visits": _visits(route.visits),
                "mean_jump": route.mean_jump,
                "max_jump": route.max_jump,
                "locality": route.locality,
                "locality_over_raster": _ratio(route.locality, route.raster),
                "close": route.close,
                "apart": route.apart,
                "directions": route.directions,
            }
            for route in found.routes
        ],
    }


def to_text(entry: Entry, found: ScanStatistics) -> str:
    """Return the scan on the grid as a table for the terminal, a line per route."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in HEAD:
        table.add_column(name, justify="left" if name in (HEAD[0], HEAD[-1]) else "right", no_wrap=name != HEAD[-1])
    for row in rows(found):
        table.add_row(*row)
    # A pipe has no width; a table squeezed into 80 columns would be hard to read in a log.
    console = Console() if sys.stdout.isatty() else Console(width=120)
    with console.capture() as captured:
        console.print(f"[bold]{escape(entry.name)}[/]  {escape(entry.description)}", highlight=False)
        console.print(f"on {form(found.grid)}: {facts(entry, found)}", highlight=False)
        console.print(table, highlight=False)
        console.print(SMALL_PRINT, highlight=False, style="dim")
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def facts(entry: Entry, found: ScanStatistics) -> str:
    """Return the scan on the grid in one sentence."""
    count = len(found.routes)
    parts = [
        f"{count} route{'s' if count != 1 else ''}"
        + (", one per block in turn" if entry.mode == "alternate" and count > 1 else "")
        + (f" merged by {entry.merge}" if count > 1 and entry.mode == "parallel" else "")
    ]
    if found.channel_walks:
        walks = f"{found.channel_walks} walk{'s' if found.channel_walks != 1 else ''}"
        parts.append(f"{walks} over channels, not measured")
    low, mean, high = found.visits
    if high:
        span = f"{low} to {high} visits per token, {mean:.2f} in the mean"
        parts.append(span if low != high else f"{low} visit{'' if low == 1 else 's'} per token")
    if found.locality is None:
        if any(not route.is_coarse for route in found.routes) and found.raster is not None:
            parts.append("no route visits two neighbours")
    else:
        parts.append(f"locality {number(found.locality)}, {times(found.locality, found.raster)} raster's")
        if sum(not route.is_coarse for route in found.routes) > 1:
            parts.append(f"{number(found.nearest)} by the nearest route, {times(found.nearest, found.raster)}")
        if found.joined < 1:
            parts.append(f"{found.joined:.0%} of neighbours share a route")
    return "; ".join(parts)


def rows(found: ScanStatistics) -> list[list[str]]:
    """Return the texts under `HEAD`; routes with equal numbers share a line."""
    alike: dict[str, list[int]] = {}
    for index, route in enumerate(found.routes, start=1):
        alike.setdefault(repr(route), []).append(index)
    return [
        [_label(found.routes[numbers[0] - 1], numbers), *_texts(found.routes[numbers[0] - 1])]
        for numbers in alike.values()
    ]


def _label(route: RouteStatistics, numbers: list[int]) -> str:
    return ", ".join(str(n) for n in numbers) + (f" on {form(route.grid)}" if route.is_coarse else "")


def _texts(route: RouteStatistics) -> list[str]:
    low, mean, high = route.visits
    return [
        str(route.length),
        str(route.padding or "–"),
        str(low) if low == high else f"{low}–{high} ({mean:.2f})",
        number(route.mean_jump),
        number(route.max_jump),
        number(route.locality),
        times(route.locality, route.raster),
        percent(route.close),
        ", ".join(f"{name} {percent(share)}" for name, share in sorted(route.directions.items(), key=lambda d: -d[1]))
        or "–",
    ]


def form(grid: Grid) -> str:
    """Return 16x16."""
    return "x".join(str(n) for n in grid)


def number(value: float | None) -> str:
    """Return a distance in two decimals, a dash for none."""
    return "–" if value is None else f"{value:.2f}"


def times(value: float | None, base: float | None) -> str:
    """Return how many times the base, a dash for none."""
    ratio = _ratio(value, base)
    return "–" if ratio is None else f"{ratio:.2f}x"


def percent(share: float | None) -> str:
    """Return a share in per cent; one that is not nothing is never 0 %."""
    if share is None:
        return "–"
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def _head(entry: Entry) -> dict[str, Any]:
    return {
        "scan": entry.name,
        "description": entry.description,
        "merge": entry.merge,
        "mode": entry.mode,
        "data_dependent": entry.is_dynamic,
    }


def _ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base


def _visits(visits: tuple[int, float, int]) -> dict[str, float]:
    return dict(zip(("min", "mean", "max"), visits, strict=True))

"""Pictures of scans: each route over its grid, with the order as colour. Needs matplotlib (extra: plots).

Shape legend: K routes, L steps of a route, T tokens of a grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dehaze_bench.errors import UsageError
from dehaze_bench.scans.grid import Grid, Walk

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
# A path of more tokens along one side is a smear of lines: colour alone shows the order then.
LINES_UP_TO = 40
PANEL_INCHES = 1.75
PAGE_INCHES = 8.0
SKIPPED = "#e4e4e4"
DPI = 100


@dataclass(frozen=True)
class Panel:
    """One route to be drawn: its token ids over `grid`, whose cells are `strides` token cells large."""

    title: str
    ids_L: np.ndarray
    grid: Grid
    strides: tuple[int, ...]


def draw(routes: Sequence[tuple[Walk, np.ndarray]], grid: Grid) -> Figure:
    """Return a figure with one panel per route: colour from first step (dark) to last (light), the path as a line.

    A white ring marks the start and a black square the end, grey cells are never visited. The frames of a volume lie
    side by side. A route over a coarser grid is drawn with larger cells; padding steps are counted in the title;
    routes that are alike share a panel. Raises `UsageError` where matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise UsageError("Pictures need matplotlib: pip install 'dehaze-bench[plots]'.") from error
    panels = _panels(routes, grid)
    frames, height, width = (1, *grid)[-3:]
    wide, tall = _panel_size((frames * width + _gap(width) * (frames - 1)) / height)
    rows = math.ceil(len(panels) / max(1, int(PAGE_INCHES / wide)))
    columns = math.ceil(len(panels) / rows)
    layout = ConstrainedLayoutEngine(w_pad=0.04 if frames == 1 else 0.12, h_pad=0.04)
    figure = Figure(figsize=(columns * wide + 0.1, rows * (tall + 0.25) + 0.05), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        _draw_panel(axis, panel, (frames, height, width), 72 * tall / height)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    return figure


def write(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, SVG or PDF, without dates or versions inside, so that equal pictures are equal files.

    Raises `UsageError` for another suffix and for a place that cannot be written to.
    """
    check_path(path)
    from matplotlib import rc_context

    suffix = path.suffix.lower()
    metadata = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[suffix]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with rc_context({"svg.hashsalt": "dehaze-bench"}):
            figure.savefig(path, metadata=metadata)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from error


def check_path(path: Path) -> None:
    """Raise `UsageError` for a path that does not say which kind of picture it is to be."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")


def _panels(routes: Sequence[tuple[Walk, np.ndarray]], grid: Grid) -> list[Panel]:
    alike: dict[tuple[Grid, Grid, bytes], list[int]] = {}
    number = 0
    for walk, ids_KL in routes:
        for ids_L in ids_KL.astype(np.int64):
            number += 1
            alike.setdefault((walk.coarse(grid), walk.strides(grid), ids_L.tobytes()), []).append(number)
    panels = []
    for (coarse, strides, data), numbers in alike.items():
        ids_L = np.frombuffer(data, np.int64)
        notes = ["x".join(str(n) for n in coarse)] if set(strides) != {1} else []
        if padding := int((ids_L < 0).sum()):
            notes.append(f"{padding} padding")
        if len(ids_L) - padding > len(np.unique(ids_L[ids_L >= 0])):
            notes.append("repeats")
        title = f"route{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
        if notes:
            title += f" ({', '.join(notes)})"
        panels.append(Panel(title, ids_L, coarse, strides))
    return panels


def _draw_panel(axis: Axes, panel: Panel, space: tuple[int, int, int], cell_points: float) -> None:
    """Draw one route in the coordinates of the token grid: cell (t, y, x) lies at (t * pitch + x, y)."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    # The darkest part is left out, so that the path stays visible on it.
    shades = colormaps["viridis"](np.linspace(0.22, 1, 256))
    colours = ListedColormap(shades, name="order").with_extremes(bad=SKIPPED)
    frames, height, width = space
    grid, strides = (1, 1, *panel.grid)[-3:], (1, 1, *panel.strides)[-3:]
    visited_L = panel.ids_L[panel.ids_L >= 0]
    order = np.full(math.prod(grid), np.nan)
    # The first visit counts for the colour of a token that is visited again.
    order[visited_L[::-1]] = np.flatnonzero(panel.ids_L >= 0)[::-1]
    last = max(1, int(np.flatnonzero(panel.ids_L >= 0).max(initial=0)))  # what follows is padding
    for frame, values in enumerate(order.reshape(grid)):
        left = frame * strides[0] * (width + _gap(width)) - 0.5
        right, bottom = left + grid[2] * strides[2], grid[1] * strides[1] - 0.5
        axis.imshow(
            values, cmap=colours, vmin=0, vmax=last, extent=(left, right, bottom, -0.5), interpolation="nearest"
        )
        _draw_cells(axis, (left, right, -0.5, bottom), grid, strides)
    axis.set_xlim(-0.6, max(width, grid[2] * strides[2]) - 0.4 + (frames - 1) * (width + _gap(width)))
    axis.set_ylim(max(height, grid[1] * strides[1]) - 0.4, -0.6)
    axis.set_aspect("equal")
    axis.set_axis_off()
    axis.set_title(panel.title, fontsize=8, pad=2)
    if not len(visited_L):  # a part of a grid that is too small for it
        return
    t, y, x = np.unravel_index(visited_L, grid)
    pitch = strides[0] * (width + _gap(width))
    points_L2 = np.stack(
        [t * pitch + x * strides[2] + (strides[2] - 1) / 2, y * strides[1] + (strides[1] - 1) / 2], axis=1
    )
    stride = max(strides[1:])
    size = max(4.5, min(7.0, 0.45 * stride * cell_points))
    axis.plot(*points_L2[0], marker="o", ms=size, mfc="white", mec="black", mew=0.9, zorder=4, clip_on=False)
    axis.plot(*points_L2[-1], marker="s", ms=size, mfc="black", mec="white", mew=0.9, zorder=4, clip_on=False)
    if max(height, width) <= LINES_UP_TO:
        _draw_path(axis, points_L2, np.diff(t) != 0, 1.5 * stride)


def _draw_cells(
    axis: Axes, box: tuple[float, float, float, float], grid: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    if max(grid[1:]) > LINES_UP_TO:
        return
    left, right, top, bottom = box
    for column in range(grid[2] + 1):
        axis.plot([left + column * strides[2]] * 2, [top, bottom], color="white", lw=0.5, zorder=2)
    for row in range(grid[1] + 1):
        axis.plot([left, right], [top + row * strides[1]] * 2, color="white", lw=0.5, zorder=2)


def _draw_path(axis: Axes, points_L2: np.ndarray, across_N: np.ndarray, reach: float) -> None:
    """Join the tokens in visiting order; what lies further apart than `reach` is a jump, or a move across frames."""
    from matplotlib.collections import LineCollection

    segments = np.stack([points_L2[:-1], points_L2[1:]], axis=1)
    near_N = np.hypot(*np.diff(segments, axis=1)[:, 0].T) < reach
    # Jumps are thin, as at full width those of a raster would cover everything else; moves across frames even more so.
    for chosen_N, width, alpha in ((across_N, 0.3, 0.25), (~near_N & ~across_N, 0.4, 0.45), (near_N, 1.1, 1.0)):
        lines = LineCollection(list(segments[chosen_N]), colors="black", linewidths=width, alpha=alpha, zorder=3)
        axis.add_collection(lines)


def _panel_size(aspect: float) -> tuple[float, float]:
    """Return width and height in inches of a panel: about as much area whatever the shape, never wider than a page."""
    wide = min(PAGE_INCHES, max(0.7, PANEL_INCHES * math.sqrt(aspect)))
    tall = max(0.15, wide / aspect)
    return (wide, tall) if tall <= PAGE_INCHES / 2 else (PANEL_INCHES / 2, PAGE_INCHES / 2)


def _gap(width: int) -> float:
    return max(0.6, width / 8)

"""The two pictures of a table: quality against cost, and which rows differ in rank. Needs matplotlib (extra: plots)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.results.cells import Table
from dehaze_bench.results.experiment import COST_COLUMNS
from dehaze_bench.results.figures import figure as written
from dehaze_bench.results.figures import p_text, title
from dehaze_bench.results.pareto import Point, points
from dehaze_bench.results.rank_tests import RankTest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = ("svg", "png", "pdf")
MARKERS = "osD^vP*X<>hd"
DPI = 120
NAMED = 20  # of more rows only those on the front, or the best and the worst, have names
LINE = 0.22  # inches that a name takes
OVERHANG, CLEAR = 0.008, 0.02  # of a bar beyond its rows, and between bars of one level, in lengths of the axis


def draw_all(table: Table, folder: Path) -> list[Path]:
    """Draw what a table has numbers for, as SVG into a folder; return the paths.

    Raises `UsageError` where matplotlib is missing.
    """
    paths = []
    metric = table.compared or metric_of(table)
    for cost in COST_COLUMNS:
        if cost in table.columns and metric is not None and len(_drawable(table, cost, metric)) > 1:
            paths.append(folder / f"quality_{cost}.svg")
            draw_quality(table, cost, metric, paths[-1])
    if table.ranks is not None:
        paths.append(folder / "ranks.svg")
        draw_ranks(table.ranks, table.title, paths[-1])
    return paths


def metric_of(table: Table) -> str | None:
    """The metric that stands first in a table; None where there is none."""
    return next((column for column in table.columns if column not in COST_COLUMNS), None)


def draw_quality(table: Table, cost: str, metric: str, path: Path) -> None:
    """Draw quality against cost with the Pareto front of the measured rows; bars are the spread over seeds.

    Raises:
        UsageError: matplotlib is missing, the suffix is unknown, or no row has both numbers.
    """
    figure = _figure(path, 9.0, 5.0)
    shown = _drawable(table, cost, metric)
    if not shown:
        raise UsageError(f"no row of {table.name} has both {cost} and {metric}: nothing to plot yet.")
    axes = figure.subplots()
    front = sorted((point for point in shown if point.front), key=lambda point: point.cost)
    if len(front) > 1:  # a staircase: at any cost, the best quality that was had for it
        xs, ys = [point.cost for point in front], [point.quality for point in front]
        axes.step(xs, ys, where="post", color="0.55", linewidth=1.2, linestyle="--", zorder=1)
    handles = _scatter(axes, shown, front)
    _cost_axis(axes, cost, [point.cost for point in shown])
    axes.set_ylabel(_with_unit(metric))
    axes.grid(True, which="major", alpha=0.25)
    axes.margins(x=0.08, y=0.1)
    figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize=8, frameon=False)
    figure.suptitle(f"{table.title}\n{_condition(table, shown)}", fontsize=10)
    _save(figure, path)


def draw_ranks(ranks: RankTest, heading: str, path: Path) -> None:
    """Draw mean ranks, best to the left; a bar joins rows that Nemenyi's test does not tell apart (Demsar 2006).

    Raises:
        UsageError: matplotlib is missing, or the suffix is unknown.
    """
    num_rows, num_left = len(ranks.labels), (len(ranks.labels) + 1) // 2

    def place(rank: float) -> float:
        return (rank - 1) / (num_rows - 1)

    joined = [(place(ranks.ranks[i]) - OVERHANG, place(ranks.ranks[k]) + OVERHANG) for i, k in ranks.cliques]
    levels = _levels(joined)
    bars = (max(levels, default=-1) + 1) * 0.09 + 0.12
    height = bars + num_left * LINE + 0.2
    figure = _figure(path, 9.0, height + 1.35)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(-0.55, 1.55)
    axes.set_ylim(-height, 0.75)
    ink: dict[str, Any] = {"color": "black", "clip_on": False}
    axes.plot([0, 1], [0, 0], linewidth=1.2, **ink)
    every = max(1, math.ceil(num_rows / 12))
    for tick in range(1, num_rows + 1, every):
        axes.plot([place(tick)] * 2, [0, 0.06], linewidth=1, **ink)
        axes.text(place(tick), 0.1, str(tick), ha="center", va="bottom", fontsize=8)
    for index, (label, rank) in enumerate(zip(ranks.labels, ranks.ranks, strict=True)):
        left = index < num_left
        depth = index if left else num_rows - 1 - index
        y, end = -bars - (depth + 0.5) * LINE, -0.03 if left else 1.03
        axes.plot([place(rank), place(rank), end], [0, y, y], linewidth=0.8, **ink)
        text = f"{_plain(label)}  {rank:.2f}" if left else f"{rank:.2f}  {_plain(label)}"
        axes.text(end + (-0.01 if left else 0.01), y, text, ha="right" if left else "left", va="center", fontsize=8)
    for ends, level in zip(joined, levels, strict=True):
        y = -0.12 - 0.09 * level
        axes.plot(ends, [y, y], linewidth=3.2, solid_capstyle="butt", color="tab:blue", clip_on=False)
    if ranks.rejects:
        wide = ranks.critical / (num_rows - 1)
        axes.plot([0, wide], [0.5, 0.5], linewidth=1.4, **ink)
        for x in (0, wide):
            axes.plot([x, x], [0.45, 0.55], linewidth=1.4, **ink)
        axes.text(wide + 0.015, 0.5, f"critical difference {ranks.critical:.2f}", va="center", fontsize=8)
    said = "" if ranks.rejects else ": no difference between rows shown"
    found = f"Friedman over n = {ranks.num_blocks} {ranks.blocks}: p {p_text(ranks.p)}{said}"
    figure.suptitle(f"{_plain(heading)}\nMean rank by {title(ranks.metric)}, 1 is best. {found}", fontsize=10)
    _save(figure, path, tight=True)


def check_suffix(path: Path) -> None:
    """Raise `UsageError` for a file whose suffix names no format of a picture."""
    if path.suffix.lstrip(".") not in SUFFIXES:
        raise UsageError(f"{path}: a picture must end with .svg, .png or .pdf. {nearest(path.suffix[1:], SUFFIXES)}")


def _drawable(table: Table, cost: str, metric: str) -> list[Point]:
    """The points that a logarithmic axis has a place for: no networks without parameters."""
    return [point for point in points(table, cost, metric) if point.cost > 0 and math.isfinite(point.quality)]


def _figure(path: Path, width: float, height: float) -> Figure:
    check_suffix(path)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("Plots need matplotlib: pip install 'dehaze-bench[plots]'.") from error
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path, tight: bool = False) -> None:
    """Write the file in one step, the same bytes each time; `tight` grows it to hold long names."""
    from matplotlib import rc_context

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    plain: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
    with rc_context({"svg.hashsalt": "dehaze_bench"}):
        figure.savefig(temporary, metadata=plain[path.suffix.lstrip(".")], bbox_inches="tight" if tight else None)
    temporary.replace(path)


def _scatter(axes: Axes, shown: Sequence[Point], front: Sequence[Point]) -> dict[str, Any]:
    """Draw the points; return what goes into the legend."""
    from matplotlib import colormaps

    named = shown if len(shown) <= NAMED else front
    palette = colormaps["tab10" if len(named) <= 10 else "tab20"]
    handles: dict[str, Any] = {}
    for point in shown:
        number = named.index(point) if point in named else None
        colour = "0.75" if number is None else palette(number % palette.N)
        hollow: dict[str, Any] = {"markerfacecolor": "none"} if point.kind == "printed" else {}
        marker = "." if number is None else MARKERS[number % len(MARKERS)]
        bars = axes.errorbar(
            [point.cost],
            [point.quality],
            yerr=None if point.std is None else [point.std],
            fmt=marker,
            color=colour,
            markersize=7 if point.front else 5.5,
            capsize=2,
            linewidth=1,
            zorder=3 if point.front else 2,
            **hollow,
        )
        if number is not None:
            kind = "" if point.kind == "ours" else f" ({point.kind})"
            handles[_plain(point.label) + kind + (" *" if point.front else "")] = bars
    if len(named) < len(shown):
        handles[f"{len(shown) - len(named)} more rows"] = axes.plot([], [], ".", color="0.75")[0]
    handles["* on the front"] = axes.plot([], [], "--", color="0.55")[0]
    return handles


def _cost_axis(axes: Axes, cost: str, costs: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    wide = max(costs) / min(costs) > 30
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    axes.xaxis.set_major_formatter(lambda value, _: written(cost, value))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(title(cost))


def _condition(table: Table, shown: Sequence[Point]) -> str:
    groups = [row.group for row in table.rows if row.group and row.label in {point.label for point in shown}]
    seeds = [row.done for row in table.rows if row.planned and row.label in {point.label for point in shown}]
    n = f"{min(seeds)} to {max(seeds)}" if min(seeds) < max(seeds) else str(seeds[0])
    return _plain(f"{groups[0].testset}, protocol {groups[0].protocol}; n = {n} seeds, bars: their standard deviation")


def _with_unit(metric: str) -> str:
    return f"{title(metric)} [dB]" if metric.startswith("psnr") else title(metric)


def _levels(bars: Sequence[tuple[float, float]]) -> list[int]:
    """The lowest level for each bar on which it keeps clear of the others, so that no two look like one."""
    ends: list[float] = []
    found = []
    for first, last in bars:
        level = next((i for i, end in enumerate(ends) if end + CLEAR < first), len(ends))
        ends[level : level + 1] = [last]
        found.append(level)
    return found


def _plain(text: str) -> str:
    """A text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")

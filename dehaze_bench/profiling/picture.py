"""Time and memory over resolution, both axes logarithmic. Needs matplotlib (extra: plots)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dehaze_bench.errors import UsageError
from dehaze_bench.profiling.rows import Row, growths

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = (("latency", "seconds per batch"), ("memory", "peak memory [MB]"))
MARKERS = "osD^vP*X<>hd"
DPI = 120


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Write the plot of a profile; training steps are dashed, published numbers dotted with hollow marks.

    Raises `UsageError` where matplotlib is missing.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("Plots need matplotlib: pip install 'dehaze-bench[plots]'.") from error
    found = growths(rows)
    labels = list(dict.fromkeys(label for label, _ in found))
    palette = colormaps["tab10" if len(labels) <= 10 else "tab20"]
    figure = Figure(figsize=(11, 4.6), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    sides = sorted({row.size for row in rows if row.seconds})
    handles = {}
    for axis, (name, heading) in zip(figure.subplots(1, 2), PANELS, strict=True):
        for (label, training), growth in found.items():
            number = labels.index(label)
            mine = [r for r in rows if (r.label, r.training) == (label, training) and r.value(name)]
            style = {"color": palette(number % palette.N), "marker": MARKERS[number % len(MARKERS)], "markersize": 5}
            fitted = growth["latency"]
            text = label + (", training" if training else "") + (f", time {fitted.exponent:.2f}" if fitted else "")
            if not mine:
                continue
            (handles[text],) = axis.plot(
                [r.size for r in mine],
                [_scaled(name, r.value(name)) for r in mine],
                "--" if training else "-",
                label=text,
                **style,
            )
            pairs = [(r.size, _published(r, name)) for r in rows if (r.label, r.training) == (label, training)]
            pairs = [(size, value) for size, value in pairs if value is not None]
            if pairs:
                text = f"{label}, published"
                (handles[text],) = axis.plot(
                    *zip(*pairs, strict=True), ":", label=text, **style, markerfacecolor="none"
                )
        _dress(axis, heading, sides)
    about = {"title": "numbers: exponent of\ntime over pixels", "title_fontsize": 8, "alignment": "left"}
    figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize=8, frameon=False, **about)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def _scaled(name: str, value: float | None) -> float:
    assert value is not None
    return value / 1e6 if name == "memory" else value


def _published(row: Row, name: str) -> float | None:
    """Return the published number in the unit of a panel."""
    if name == "memory":
        value = row.printed("memory")
        return None if value is None else value / 1e6
    rate = row.printed("throughput")
    logarithm = row.printed("log10_throughput")
    if rate is None and logarithm is not None:
        rate = 10**logarithm
    return row.batch / rate if rate else None


def _dress(axis: Axes, heading: str, sides: Sequence[int]) -> None:
    from matplotlib.ticker import LogLocator

    if not axis.lines:  # a logarithmic axis without numbers cannot be drawn
        axis.set_axis_off()
        return
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(sides, [str(side) for side in sides])
    axis.xaxis.minorticks_off()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.minorticks_off()
    axis.set_xlabel("side of the image [pixels]")
    axis.set_ylabel(heading)
    axis.grid(True, which="both", alpha=0.25)

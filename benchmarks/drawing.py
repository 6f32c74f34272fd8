"""The picture of `ops.py`: nanoseconds per value against length, one panel per operator and pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

COLOURS = ("#0b5fa5", "#c8501e", "#3b7d3a", "#7a4b9a", "#8a6d1f")
MARKERS = {"raster": "o", "columns": "s", "hilbert": "^", "random": "x", "cross": "D"}
REFERENCE = "reference"

Row = dict[str, Any]


def draw(rows: list[Row], machine: dict[str, Any], path: Path) -> None:
    """Write a PNG file."""
    operators = list(dict.fromkeys(row["operator"] for row in rows))
    passes = list(dict.fromkeys(row["pass"] for row in rows))
    fast = sorted({row["backend"] for row in rows} - {REFERENCE})
    colours = {REFERENCE: "#777777"} | dict(zip(fast, COLOURS, strict=False))
    size = (3.1 * len(operators) + 1.2, 3.1 * len(passes) + 0.9)
    figure, axes = plt.subplots(len(passes), len(operators), figsize=size, sharex=True, sharey=True, squeeze=False)
    for column, operator in enumerate(operators):
        for line, which in enumerate(passes):
            chosen = [row for row in rows if row["operator"] == operator and row["pass"] == which]
            panel(axes[line][column], chosen, colours)
            axes[line][column].set_title(f"{operator}, {which}", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("tokens")
    for axes_of_pass in axes:
        axes_of_pass[0].set_ylabel("ns per token and channel")
    orders = list(dict.fromkeys(row["order"] for row in rows))
    handles = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    handles += [Line2D([], [], color="black", linestyle="", marker=MARKERS[name], label=name) for name in orders]
    handles += [Line2D([], [], color="black", linestyle=":", label="floor")]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=8, frameon=False)
    figure.suptitle("   ".join(f"{key} {value}" for key, value in machine.items()), fontsize=8)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def panel(axis: Axes, rows: list[Row], colours: dict[str, str]) -> None:
    """Lines of one operator and pass: a colour per backend, a marker per order, dots for the floor."""

    def per_value(row: Row, seconds: float) -> float:
        return seconds / row["seconds"] / row["values_per_second"] * 1e9

    for backend, order in dict.fromkeys((row["backend"], row["order"]) for row in rows):
        line = [row for row in rows if (row["backend"], row["order"]) == (backend, order)]
        lengths, times = [row["tokens"] for row in line], [per_value(row, row["seconds"]) for row in line]
        style = {"color": colours[backend], "marker": MARKERS[order], "linewidth": 1.1, "markersize": 4.5}
        axis.plot(lengths, times, markerfacecolor="none", **style)
    floors = {row["tokens"]: per_value(row, row["floor_seconds"]) for row in rows}
    axis.plot(list(floors), list(floors.values()), color="black", linestyle=":", linewidth=1.2)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(sorted(floors), [f"{length // 1024}k" for length in sorted(floors)])
    axis.minorticks_off()
    axis.grid(alpha=0.25, which="major")

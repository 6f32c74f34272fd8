"""`dehaze-bench table`: the table of an experiment, looked at as asked, in any format, with its plots."""

from __future__ import annotations

import sys
from pathlib import Path

from dehaze_bench import arguments
from dehaze_bench.arguments import Arguments
from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.results.cells import Table
from dehaze_bench.results.experiment import COST_COLUMNS
from dehaze_bench.results.files import write_text_atomic
from dehaze_bench.results.renderers import FORMATS, print_table, render
from dehaze_bench.results.selection import Condition, View

CONSOLE = "console"


def run(argv: Arguments) -> int:
    """Do the verb; everything that can be wrong with the options is said before a run is looked up."""
    given: dict[str, str | None] = {}
    for name in ("format", "out", "sort", "baseline", "compare", "cost", "plot", "ranks"):
        given[name], argv = arguments.option(argv, f"--{name}")
    where, argv = arguments.options(argv, "--where")
    publish, argv = arguments.flag(argv, "--publish")
    name, argv = arguments.positional(argv, "table", "an experiment")
    arguments.only_overrides("table", argv)
    form = _format(given["format"], given["out"])
    _check_pictures(given["plot"], given["ranks"], given["cost"])
    view = View(
        sort=given["sort"],
        where=tuple(Condition.parse(text) for text in where),
        baseline=given["baseline"],
        compare=given["compare"],
        ranks=given["ranks"] is not None,
    )
    from dehaze_bench import sweep as sweeps

    plan = sweeps.plan(name, argv)
    made = sweeps.table_of(plan, view)
    _write(made, form, given["out"])
    for path in _draw(made, given["plot"], given["ranks"], given["cost"]):
        print("plot:    ", path, file=sys.stderr)
    if publish:
        for place in sweeps.publish(made, plan):
            print("W&B:     ", place)
    return 0


def _format(form: str | None, out: str | None) -> str:
    if form is not None and form not in (*FORMATS, CONSOLE):
        raise UsageError(f"Unknown format '{form}'. {nearest(form, (*FORMATS, CONSOLE))}")
    if out is None:
        return form or CONSOLE
    suffix = Path(out).suffix.lstrip(".")
    return (form if form != CONSOLE else None) or (suffix if suffix in FORMATS else "md")


def _check_pictures(plot: str | None, ranks: str | None, cost: str | None) -> None:
    from dehaze_bench.results.plots import check_suffix

    for text in (plot, ranks):
        if text is not None:
            check_suffix(Path(text))
    if cost is not None and plot is None:
        raise UsageError(f"--cost {cost} says what a plot is drawn against: add --plot FILE.svg.")


def _write(made: Table, form: str, out: str | None) -> None:
    if form == CONSOLE:
        print_table(made)
        return
    text = render(made, form)
    if out is None:
        print(text, end="" if text.endswith("\n") else "\n")
        return
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(Path(out), text)
    print(out)


def _draw(made: Table, plot: str | None, ranks: str | None, cost: str | None) -> list[Path]:
    from dehaze_bench.results import plots

    paths = []
    if plot is not None:
        costs = [column for column in made.columns if column in COST_COLUMNS]
        cost = cost or ("macs" if "macs" in costs else next(iter(costs), None))
        if cost not in costs:
            hint = nearest(cost or "", costs)
            raise UsageError(f"{made.name} has no cost column '{cost}' to plot against. {hint}")
        metric = made.compared or plots.metric_of(made)
        if metric is None:
            raise UsageError(f"{made.name} has no metric to plot.")
        paths.append(Path(plot))
        plots.draw_quality(made, cost, metric, paths[-1])
    if ranks is not None:
        if made.ranks is None:
            raise UsageError("--ranks needs three rows or more that were measured on the same images, two or more.")
        paths.append(Path(ranks))
        plots.draw_ranks(made.ranks, made.title, paths[-1])
    return paths

"""What `dehaze-bench ls` prints: choices of every group from the files themselves, experiments, and runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.registry import experiment_dirs, find_references, list_choices, list_groups

# What people ask for, and the config group that holds it.
GROUPS = {
    "models": "model",
    "mixers": "model/mixer",
    "backbones": "model/backbone",
    "scans": "scan",
    "datasets": "dataset",
    "testsets": "testset",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "losses": "loss",
    "protocols": "protocol",
    "recipes": "recipe",
    "runtimes": "runtime",
    "trackers": "track",
}

FILES = ("experiments", "references", "runs")


def lines(what: str | None, overrides: Sequence[str] = (), failed: bool = False) -> str:
    """Return the listing as text; raises `UsageError` for something that cannot be listed."""
    if what is None:
        counts = {name: len(list_choices(group)) for name, group in GROUPS.items()}
        return "\n".join([*(f"{name:12}{count}" for name, count in counts.items()), *FILES])
    if what == "experiments":
        return _experiments()
    if what == "references":
        return _references(overrides)
    if what == "runs":
        return _runs(overrides, failed)
    group = GROUPS.get(what, what)
    if group not in list_groups():
        raise UsageError(f"There are no '{what}' to list. {nearest(what, [*GROUPS, *FILES])}")
    return _scans() if group == "scan" else _columns(list_choices(group))


def _columns(found: dict[str, str]) -> str:
    width = max((len(name) for name in found), default=0) + 2
    return "\n".join(f"{name:{width}}{text}".rstrip() for name, text in found.items())


def _scans() -> str:
    """Scans with their locality, which needs NumPy but no torch; a scan that cannot be measured says why."""
    from dehaze_bench.scans import catalogue

    found = catalogue.entries()
    width = max(len(entry.name) for entry in found) + 2
    rows = [f"{'scan':{width}}{'locality':>8}  {'nearest':>7}  description"]
    for entry in found:
        numbers, text = ["n/a", "n/a"], entry.description
        if entry.walks and not entry.is_dynamic:
            try:
                measured = entry.measure(entry.default(catalogue.COMPARED))
            except UsageError as error:
                text = f"{text} ({error})"
            else:
                numbers = [f"{n:.1f}" if n is not None else "n/a" for n in (measured.locality, measured.nearest)]
        elif entry.error:
            text = f"{text} ({entry.error})"
        rows.append(f"{entry.name:{width}}{numbers[0]:>8}  {numbers[1]:>7}  {text}".rstrip())
    return "\n".join(rows)


def _experiments() -> str:
    from dehaze_bench.results.experiment import list_experiments

    found = list_experiments(experiment_dirs())
    return _columns({item.name: item.title or f"cannot be read: {item.error}" for item in found})


def _references(overrides: Sequence[str]) -> str:
    """What was published on each test set; with dataset=NAME the rows, best first, and where each was read."""
    from dehaze_bench.results.figures import figure
    from dehaze_bench.results.reference import ReferenceSet

    found = {path.stem: path for path in find_references()}
    wanted = None
    for text in overrides:
        key, _, wanted = text.partition("=")
        if key != "dataset" or wanted not in found:
            raise UsageError(f"ls references takes dataset=NAME. {nearest(wanted or text, found)}")
    if wanted is None:
        sets = {name: ReferenceSet.load(path) for name, path in found.items()}
        return _columns({name: f"{len(item.rows)} published rows. {item.note}" for name, item in sets.items()})
    reference = ReferenceSet.load(found[wanted])
    first = next((name for row in reference.rows for name in row.values if name not in ("params", "macs", "size")), "")
    names = list(dict.fromkeys(name for row in reference.rows for name in row.values))
    table = [["label", *names, "protocol", "provenance", "source"]]
    for row in sorted(reference.rows, key=lambda row: -row.values.get(first, float("-inf"))):
        values = [figure(name, row.values[name], printed=True) if name in row.values else "" for name in names]
        note = f" NOTE: {row.note}" if row.note else ""
        table.append([row.label, *values, row.protocol, row.provenance, row.source + note])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([*lines, "", f"{wanted}, by {first}. {reference.note}"])


def _runs(overrides: Sequence[str], failed: bool) -> str:
    from dehaze_bench.results.store import Store

    root = Path("runs")
    for text in overrides:
        key, _, value = text.partition("=")
        if key != "paths.runs":
            raise UsageError(f"ls runs takes paths.runs=DIR only, not '{text}'.")
        root = Path(value)
    rows = []
    for run in Store(root).runs():
        if failed and run.state not in ("failed", "broken"):
            continue
        text = run.reason
        if run.record is not None:
            evaluation = run.record.evaluation
            values = "  ".join(f"{name} {value.mean:.3f}" for name, value in evaluation.metrics.items())
            text = f"{evaluation.testset} {evaluation.protocol} n={evaluation.n}  {values}"
        rows.append(f"{run.id}  {run.state:12}{run.slug:44}{text}".rstrip())
    return "\n".join(rows) or f"no {'failed ' if failed else ''}runs under {root}"

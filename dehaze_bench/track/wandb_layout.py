"""A saved view of a W&B project for one experiment: its table, results, curves and pictures, over its runs alone.

Made by W&B's own package, wandb-workspaces. Views are kept by a server, so that an offline run has none; the address of
the one that was made is remembered beside the table, so that publishing again changes that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

MARK = "layout-url"


@dataclass(frozen=True)
class Layout:
    """What a view shows: `names` of runs, the `table` that one of them holds, metrics by test set, costs, plots.

    `metrics` are keys like photos/psnr, `costs` those like cost.macs of a run's summary, `plots` keys of pictures.
    """

    title: str
    names: Sequence[str]
    table: str
    metrics: Sequence[str]
    costs: Sequence[str]
    plots: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def save(layout: Mapping[str, Any], run: Any, mark: Path) -> str:
    """Save the view that `Layout.to_dict` describes in the project of a W&B run, and return its address."""
    import wandb_workspaces.workspaces as workspaces

    view = _earlier(mark, str(run.url)) or workspaces.Workspace(entity=run.entity, project=run.project)
    view.name = layout["title"]
    view.sections = _sections(layout)
    view.runset_settings = workspaces.RunsetSettings(filters=[workspaces.Metric("Name").isin(list(layout["names"]))])
    view.save()
    mark.write_text(view.url, encoding="utf-8")
    return str(view.url)


def _earlier(mark: Path, run_url: str) -> Any:
    """The view whose address was remembered, where it is one of the same project and still there."""
    import wandb_workspaces.workspaces as workspaces

    with suppress(Exception):  # no file, another server, a view that somebody has removed
        address = mark.read_text(encoding="utf-8").strip()
        old, new = urlparse(address), urlparse(run_url.partition("/runs/")[0])
        if (old.netloc, old.path) == (new.netloc, new.path):
            return workspaces.Workspace.from_url(address)
    return None


def _sections(layout: Mapping[str, Any]) -> list[Any]:
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as workspaces

    metrics: list[str] = list(layout["metrics"])
    testsets = list(dict.fromkeys(metric.rpartition("/")[0] for metric in metrics))
    bars = [panels.BarPlot(title=metric, metrics=[panels.SummaryMetric(metric)]) for metric in metrics]
    costs = [
        panels.ScatterPlot(
            title=f"{metrics[0]} against {cost}", x=panels.SummaryMetric(cost), y=panels.SummaryMetric(metrics[0])
        )
        for cost in layout["costs"]
        if metrics
    ]
    curves = [panels.LinePlot(title=key, x="Step", y=[key]) for key in ("loss", *metrics, "lr")]
    pictures = [panels.WeavePanelSummaryTable(table_name=f"{testset}/images") for testset in testsets]
    media = [panels.MediaBrowser(title=key, media_keys=[key]) for key in ("scan_picture", *layout["plots"])]
    return [
        workspaces.Section(name=name, panels=shown, is_open=is_open)
        for name, shown, is_open in (
            ("Table", [panels.WeavePanelSummaryTable(table_name=layout["table"])], True),
            ("Results", [*bars, *costs], True),
            ("Curves", curves, False),
            ("Pictures", [*pictures, *media], False),
        )
    ]

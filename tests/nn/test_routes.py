"""Orders of whole grids: the routes of a scan one by one, and scans that have none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.routes import whole_orders
from dehaze_bench.scans import Scan, planar
from dehaze_bench.scans.dynamic import ByContent
from dehaze_bench.scans.grid import Grid, Walk


def test_every_route_is_an_order() -> None:
    orders = whole_orders(Scan("cross", planar.cross), torch.rand(1, 6, 2), (2, 3), "A network")
    assert [order.tolist() for order in orders] == planar.cross((2, 3)).tolist()


def half(grid: Grid) -> np.ndarray:
    return planar.raster(grid).reshape(2, -1)


@pytest.mark.parametrize(
    "scan",
    [
        Scan("half", half),
        Scan("coarse", (Walk(planar.raster), Walk(planar.raster, 2))),
        Scan("by_content", ByContent()),
    ],
    ids=lambda scan: scan.name,
)
def test_scans_without_whole_routes_are_refused(scan: Scan) -> None:
    with pytest.raises(UsageError, match="A network needs routes that visit every token once"):
        whole_orders(scan, torch.rand(1, 16, 2), (4, 4), "A network")

"""Orders over a grid: pure index arithmetic. A scan is data (routes and a merge rule); any mixer takes any scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dehaze_bench.scans.grid import Grid, Order, Walk

if TYPE_CHECKING:
    from dehaze_bench.scans.scan import MERGES, MODES, Routes, Scan

__all__ = ["MERGES", "MODES", "Grid", "Order", "Routes", "Scan", "Walk"]


def __getattr__(name: str) -> Any:
    # Routes are tensors; orders are not, and listing them must not wait for torch.
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from dehaze_bench.scans import scan

    return getattr(scan, name)

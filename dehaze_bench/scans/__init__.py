"""Orders over a grid: pure index arithmetic. A scan is data (routes and a merge rule); any mixer takes any scan."""

from dehaze_bench.scans.scan import MERGES, Routes, Scan

__all__ = ["MERGES", "Routes", "Scan"]

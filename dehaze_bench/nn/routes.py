"""Orders for recurrences that need every token once, as those of the RWKV line do.

Shape legend: B batch, L tokens, C channels.
"""

from __future__ import annotations

from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.scans import Scan


def whole_orders(scan: Scan, x_BLC: Tensor, grid: tuple[int, int], owner: str) -> list[Tensor]:
    """Return the routes of a scan as orders (L,) of the tokens of `grid`.

    Raises `UsageError`, in the name of the network `owner`, where a route skips or repeats tokens, visits a coarser
    grid, or differs from picture to picture.
    """
    found: list[Tensor] = []
    for routes in scan.through(x_BLC, grid):
        if not routes.is_permutation or routes.is_coarse or routes.index_KL.ndim != 2:
            raise UsageError(
                f"{owner} needs routes that visit every token once: scan '{scan.name}' skips, repeats, shrinks or "
                "reorders by content. Choose for example raster, cross or hilbert."
            )
        found.extend(routes.index_KL)
    return found

"""LocalVMamba: VMamba's first release with four searched routes per block, some of them through local windows.

Huang et al., "LocalMamba: Visual State Space Model with Windowed Selective Scan", arXiv 2403.09338, sections 3.2, 3.3.

| size          | C  | depths      | parameters | MACs at 224 | top-1 |
|---------------|----|-------------|------------|-------------|-------|
| LocalVMamba-T | 96 | 2, 2, 9, 2  | 25,527,160 | 5.729 G     | 82.7  |
| LocalVMamba-S | 96 | 2, 2, 27, 2 | 49,748,536 | 11.373 G    | 83.7  |

Against VMamba: each block has routes of its own, padding inside the routes where windows do not divide the grid (and at
their end, up to the longest), and one channel attention for every route before the sum.

Deviation: on grids that are not square the published code puts what column routes make back at wrong tokens (height and
width change places); here it goes where it was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.direction_search import DirectionSearch
from dehaze_bench.nn.ss2d import SS2D, check_planar
from dehaze_bench.nn.vss import Hierarchy, VSSBlock
from dehaze_bench.scans import Scan
from dehaze_bench.scans.windows import CANDIDATES, local

Directions = Sequence[str] | Sequence[Sequence[str]] | Sequence[Sequence[Sequence[str]]]


class LocalVMamba(Hierarchy):
    """Blocks of SS2D without feed-forward layers, each with the routes that `directions` lists for it.

    One list of names for all blocks, or one for each, in one list or by stage; None searches: all eight candidates in
    every block, with a learned weight for each (`best_directions` tells which to keep). A direction is "h" (rows),
    "v" (columns) or "wK" (windows of K x K), each also with "_flip" for the reverse. `scan` takes their place
    everywhere; its own merge rule counts then, so channel attention comes with "attention" alone.
    """

    counting = "vmamba"

    def __init__(
        self,
        directions: Directions | None = CANDIDATES[:4],
        depths: Sequence[int] = (2, 2, 9, 2),
        dims: int | Sequence[int] = 96,
        d_state: int = 16,
        ratio: float = 2.0,
        dt_rank: int | None = None,
        drop_path: float = 0.0,
        num_classes: int = 1000,
        scan: Scan | None = None,
    ) -> None:
        searches = directions is None and scan is None
        if scan is None:
            listed = _list(CANDIDATES if directions is None else directions, sum(depths))
            scans = [Scan("local", partial(local, directions=names), merge="attention") for names in listed]
        else:
            scans = [check_planar(scan).for_block(number) for number in range(sum(depths))]

        def block(stage: int, width: int, number: int, drop: float) -> VSSBlock:
            op = SS2D(width, scans[number], d_state, ratio, dt_rank)
            if searches:
                op.merge = DirectionSearch(CANDIDATES, op.width)
            return VSSBlock(width, op, drop=drop)

        super().__init__(block, depths, dims, drop_path=drop_path, num_classes=num_classes)

    def best_directions(self, keep: int = 4) -> list[list[str]]:
        """Return the directions that a search found, per block; raises `UsageError` for a network without one."""
        found = [module.best(keep) for module in self.modules() if isinstance(module, DirectionSearch)]
        if not found:
            raise UsageError("This LocalVMamba searches nothing: build it with directions=null and no other scan")
        return found


def _list(directions: Directions, num_blocks: int) -> list[tuple[str, ...]]:
    """Return one tuple of names per block."""
    if all(isinstance(entry, str) for entry in directions):
        return [tuple(cast(Sequence[str], directions))] * num_blocks
    found: list[tuple[str, ...]] = []
    for entry in directions:
        is_block = all(isinstance(name, str) for name in entry)
        found += [cast(tuple[str, ...], tuple(entry))] if is_block else [tuple(names) for names in entry]
    if len(found) != num_blocks:
        raise UsageError(
            f"LocalVMamba with {num_blocks} blocks needs directions for each, not for {len(found)}; "
            "one list of names serves all of them"
        )
    return found

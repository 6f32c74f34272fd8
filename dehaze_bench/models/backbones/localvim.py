"""LocalVim: Vim with four branches per layer, in directions that a search found for that layer.

Huang et al., "LocalMamba: Visual State Space Model with Windowed Selective Scan", arXiv 2403.09338, table 1.

| size              | D   | depth | parameters | top-1 |
|-------------------|-----|-------|------------|-------|
| LocalVim-T        | 192 | 20    | 7,994,152  | 76.2  |
| LocalVim-T, class | 192 | 20    | 7,994,536  | 77.8  |
| LocalVim-S        | 384 | 20    | 27,783,784 | 81.2  |

LocalVim-S is defined twice in the published code: with the directions of LocalVim-T, and again, which is what counts
there and here, with rows and windows of 2, there and back, in all layers.

Deviations: columns are walked back correctly on grids that are not square (the published reverse is wrong there); the
rotary embedding of another size is computed for it, where the published code interpolates that of the training size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.branched import Branched
from dehaze_bench.nn.column import Column
from dehaze_bench.nn.direction_search import DirectionSearch
from dehaze_bench.nn.initialisation import init_linear
from dehaze_bench.nn.residual import init_stream_linear
from dehaze_bench.nn.tokens import Tokens
from dehaze_bench.scans import Scan
from dehaze_bench.scans.windows import CANDIDATES, local


class LocalVim(Column):
    """`directions` has a list of names for each layer, one list for all, or is None: then all eight are searched over.

    Without a class token the mean token is classified and positions are also rotated into the stream (`rotary`); with
    one in the "middle", by default, they are not. It stands in the middle of every scanned sequence, also of those
    that run backwards. `scan` replaces the routes of all layers.
    """

    counting = "localvim"

    def __init__(
        self,
        dim: int = 192,
        depth: int = 20,
        directions: Sequence[Sequence[str]] | Sequence[str] | None = ("h", "h_flip", "w2", "w2_flip"),
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2.0,
        patch: int = 16,
        image_size: int = 224,
        class_token: str = "none",
        rotary: bool | None = None,
        num_classes: int = 1000,
        drop_path: float = 0.0,
        scan: Scan | None = None,
    ) -> None:
        tokens = Tokens(dim, patch, patch, image_size, class_token, corner_pad=True)
        scans = [_local(names) for names in _each(directions, depth)]
        if scan is not None:
            scans = [scan.for_block(i) for i in range(depth)]
        mixers = [
            Branched(dim, each, d_state, d_conv, expand, class_token=class_token, mirrored=False) for each in scans
        ]
        if directions is None and scan is None:
            for mixer in mixers:
                mixer.merge = DirectionSearch(CANDIDATES, mixer.out_proj.in_features)
        rotary = class_token == "none" if rotary is None else rotary
        super().__init__(tokens, mixers, num_classes, drop_path, rotary)
        init_stream_linear(self.layers)
        self.head.apply(init_linear)

    def best_directions(self, keep: int = 4) -> list[list[str]]:
        """Return the directions that a search found, per layer; raises `UsageError` for a network without one."""
        searches = [module for module in self.modules() if isinstance(module, DirectionSearch)]
        if not searches:
            raise UsageError("This LocalVim does not search: build it with directions=null and without another scan")
        return [search.best(keep) for search in searches]


def _each(directions: Sequence[Sequence[str]] | Sequence[str] | None, depth: int) -> list[tuple[str, ...]]:
    """Return one tuple of directions per layer."""
    if directions is None:
        return [CANDIDATES] * depth
    if directions and isinstance(directions[0], str):
        return [tuple(str(name) for name in directions)] * depth
    if len(directions) != depth:
        raise UsageError(f"LocalVim with {depth} layers needs as many lists of directions, not {len(directions)}")
    return [tuple(names) for names in directions]


@lru_cache(maxsize=64)
def _local(directions: tuple[str, ...]) -> Scan:
    return Scan("local", partial(local, directions=directions), "attention")

"""VideoMamba: Vim's mixer, summed, over pictures or over the frames of a video.

Li et al., "VideoMamba: State Space Model for Efficient Video Understanding", ECCV 2024, arXiv 2403.06977, table 2.

| size          | D   | depth | parameters | with 8 frames | top-1 (ImageNet) |
|---------------|-----|-------|------------|---------------|------------------|
| VideoMamba-Ti | 192 | 24    | 7,148,008  | 7,149,544     | 76.9             |
| VideoMamba-S  | 384 | 24    | 25,796,584 | 25,799,656    | 81.2             |
| VideoMamba-M  | 576 | 32    | 74,217,448 | 74,222,056    | 82.8 (distilled) |
| VideoMamba-B  | 768 | 24    | 97,598,440 | 97,604,584    | 82.7 (distilled) |

Deviations: other sizes and numbers of frames than those built for are accepted, tables are then resized. Patches
cover one frame, as in all released networks, so their convolution has no axis of time.
"""

from __future__ import annotations

from dehaze_bench.nn.branched import Branched
from dehaze_bench.nn.column import Column
from dehaze_bench.nn.initialisation import init_linear
from dehaze_bench.nn.residual import init_stream_linear
from dehaze_bench.nn.tokens import Tokens
from dehaze_bench.scans import Scan, planar


class VideoMamba(Column):
    """Pictures (B, 3, H, W), or with `frames` videos (B, 3, T, H, W); the class token comes first.

    `scan` replaces the two routes, frame by frame and the reverse; over pictures it is one over rows and columns, over
    videos one over frames as well, such as temporal_first.
    """

    counting = "videomamba"

    def __init__(
        self,
        dim: int = 192,
        depth: int = 24,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2.0,
        patch: int = 16,
        image_size: int = 224,
        frames: int | None = None,
        num_classes: int = 1000,
        drop_path: float = 0.0,
        scan: Scan | None = None,
    ) -> None:
        scan = scan or Scan("bidirectional", planar.bidirectional, "sum")
        tokens = Tokens(dim, patch, patch, image_size, "first", frames=frames)
        mixers = [Branched(dim, scan.for_block(i), d_state, d_conv, expand, class_token="first") for i in range(depth)]
        super().__init__(tokens, mixers, num_classes, drop_path)
        init_stream_linear(self.layers)
        self.head.apply(init_linear)

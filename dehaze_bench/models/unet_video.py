"""The controlled U-Net over clips: a 3-D scan mixes tokens of all frames, everything else sees one frame.

The counterpart of `unet.py` for routes over frames, rows and columns, as VideoMamba, Mamba-ND and SegMamba walk them.
As the convolutions, the skip fusion and the reconstruction work frame by frame, what such a network knows of other
frames it knows from its routes; the same network over single frames (`model=unet` under a planar scan) is the control.

Shape legend: B batch, T frames, C channels, H and W size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn as nn
from torch import Tensor

from dehaze_bench.models.unet import UNet
from dehaze_bench.nn.mixers import Mixer
from dehaze_bench.scans import Scan
from dehaze_bench.scans.volume import spatiotemporal


class VideoUNet(nn.Module):
    """Restorer of clips (B, T, 3, H, W) in [0, 1] of any length; a picture (B, 3, H, W) is a clip of one frame.

    The arguments are those of `UNet`. `scan=None` is `spatiotemporal`, four routes. H and W must be multiples of
    `multiple`.
    """

    trainable = True
    takes_clips = True

    def __init__(
        self,
        mixer: Callable[[int], Mixer],
        scan: Scan | None = None,
        width: float = 24.0,
        depths: Sequence[int] = (1, 1, 2, 1, 1),
        patch: int = 2,
        ffn_ratio: float = 2.0,
        ffn: str = "mlp",
        extra_norm: bool = False,
        connect_states: bool = False,
    ) -> None:
        super().__init__()
        scan = Scan("spatiotemporal", spatiotemporal, "sum") if scan is None else scan
        self.unet = UNet(mixer, scan, width, depths, patch, ffn_ratio, ffn, extra_norm, connect_states)
        self.multiple = self.unet.multiple

    def forward(self, clip_BTCHW: Tensor) -> Tensor:
        if clip_BTCHW.ndim == 4:
            restored: Tensor = self.unet(clip_BTCHW, 1)
            return restored
        restored = self.unet(clip_BTCHW.flatten(0, 1), clip_BTCHW.shape[1])
        return restored.view_as(clip_BTCHW)

"""Self-ensemble: the mean of a restoration over the eight symmetries of the image.

The "+" of the super-resolution literature (EDSR, Lim et al., CVPR Workshops 2017, section 3.4, after Timofte et al.,
CVPR 2016): the image is flipped and turned in all eight ways, restored, turned back, and the results are averaged.
Shapes: C channel, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def restore_ensemble(restore_one: Callable[[Tensor], Tensor], image_CHW: Tensor) -> Tensor:
    """Return the mean over eight symmetries of `restore_one`, which takes (3, H, W) and (3, W, H) to the same shape."""
    total_CHW = torch.zeros_like(image_CHW, dtype=torch.float32)
    for flip in (False, True):
        for turns in range(4):
            seen_CHW = torch.rot90(image_CHW.flip(-1) if flip else image_CHW, turns, (-2, -1))
            back_CHW = torch.rot90(restore_one(seen_CHW.contiguous()), -turns, (-2, -1))
            total_CHW += back_CHW.flip(-1) if flip else back_CHW
    return total_CHW / 8

"""Restore a clip: all frames at once by a network that takes clips, one by one by any other.

Shapes: T frames, C colour, H and W size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dehaze_bench.engine.clips import takes_clips
from dehaze_bench.infer.pad import check_image, evaluating, multiple_of, pad_to_multiple, restore, run


def restore_clip(model: nn.Module, clip_TCHW: Tensor, *, device: torch.device | str) -> Tensor:
    """Return the restored clip, float32, not clamped, on the device of `clip_TCHW`; it is padded as in `restore`."""
    if not takes_clips(model):
        return torch.stack([restore(model, image_CHW, device=device) for image_CHW in clip_TCHW])
    check_image(clip_TCHW[0])
    height, width = clip_TCHW.shape[-2:]
    with evaluating(model), torch.inference_mode():
        padded_BTCHW = pad_to_multiple(clip_TCHW[None].float(), multiple_of(model))
        restored_BTCHW = run(model, padded_BTCHW.to(device))
        return restored_BTCHW[0, ..., :height, :width].float().to(clip_TCHW.device)

"""Restore one image of any size: pad to what the network needs, run it, crop back.

Shapes: B batch, C channel, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dehaze_bench.errors import UsageError


def restore(model: nn.Module, image_CHW: Tensor, *, device: torch.device | str) -> Tensor:
    """Return the restored image, float32, not clamped, on the device of `image_CHW`.

    The image is reflected to the right and to the bottom up to `model.multiple`, as most published test
    scripts do. The network runs in evaluation mode and is left in the mode it had. Raises UsageError where
    the image is not (3, H, W), or where the network changes its size.
    """
    check_image(image_CHW)
    height, width = image_CHW.shape[-2:]
    with evaluating(model), torch.inference_mode():
        padded_BCHW = pad_to_multiple(image_CHW[None].float(), multiple_of(model))
        restored_BCHW = run(model, padded_BCHW.to(device))
        return restored_BCHW[0, :, :height, :width].float().to(image_CHW.device)


def run(model: nn.Module, hazy_BCHW: Tensor) -> Tensor:
    """Return `model(hazy_BCHW)`; raises UsageError unless it is an image batch of the same shape."""
    restored_BCHW = model(hazy_BCHW)
    if not isinstance(restored_BCHW, Tensor) or restored_BCHW.shape != hazy_BCHW.shape:
        found = tuple(restored_BCHW.shape) if isinstance(restored_BCHW, Tensor) else type(restored_BCHW)
        raise UsageError(
            f"{type(model).__name__} returned {found} for an image batch of {tuple(hazy_BCHW.shape)}: "
            f"a restorer returns images of the same size."
        )
    return restored_BCHW


def pad_to_multiple(image_BCHW: Tensor, multiple: int) -> Tensor:
    """Return the image reflected to the right and to the bottom until both sides are multiples of `multiple`.

    The edge pixel is not repeated. Where the pad is longer than the image the reflection itself is reflected
    again, so that even a single pixel can be padded; `torch.nn.functional.pad` refuses such images.
    """
    height, width = image_BCHW.shape[-2:]
    if height % multiple:
        rows = reflected_indices(height, -(-height // multiple) * multiple)
        image_BCHW = image_BCHW.index_select(-2, rows.to(image_BCHW.device))
    if width % multiple:
        columns = reflected_indices(width, -(-width // multiple) * multiple)
        image_BCHW = image_BCHW.index_select(-1, columns.to(image_BCHW.device))
    return image_BCHW


def reflected_indices(size: int, padded: int) -> Tensor:
    """Return `padded` indices that walk 0 ... size-1 ... 0 ... size-1 and so on."""
    period = max(2 * (size - 1), 1)
    phase = torch.arange(padded) % period
    return torch.minimum(phase, period - phase) if size > 1 else torch.zeros(padded, dtype=torch.int64)


def multiple_of(model: nn.Module) -> int:
    """Return the number that height and width of the model's input must be multiples of."""
    multiple = getattr(model, "multiple", None)
    if not isinstance(multiple, int) or multiple < 1:
        raise UsageError(
            f"{type(model).__name__} does not state the multiple of its input size: set the class attribute "
            f"`multiple` (1 where any size fits)."
        )
    return multiple


def check_image(image_CHW: Tensor) -> None:
    """Raise UsageError unless the image is (3, H, W), not empty, and floating point."""
    if image_CHW.ndim != 3 or image_CHW.shape[0] != 3 or image_CHW.numel() == 0:
        raise UsageError(f"An image is (3, H, W) with H, W >= 1, not {tuple(image_CHW.shape)}.")
    if not image_CHW.is_floating_point():
        raise UsageError(f"An image holds floats in [0, 1], not {image_CHW.dtype}: divide 8-bit values by 255.")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run the block in evaluation mode, then give every submodule the mode it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True

"""Crops that published test scripts make so that height and width become multiples of 8 or 16."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Box = tuple[int, int, int, int]  # top, left, height, width


def _half_to_even(size: int, multiple: int) -> tuple[int, int]:
    # Python rounds half to even: a surplus of 3 starts at 2, a surplus of 5 starts at 2 as well.
    surplus = size % multiple
    return round(surplus / 2), size - surplus


def _half_down(size: int, multiple: int) -> tuple[int, int]:
    surplus = size % multiple
    return surplus // 2, size - surplus


def _none_before(size: int, multiple: int) -> tuple[int, int]:
    return 0, size - size % multiple


CROPS: dict[str, tuple[Callable[[int, int], tuple[int, int]], int]] = {
    "centre8": (_half_to_even, 8),
    "centre16": (_half_down, 16),
    "topleft16": (_none_before, 16),
}


def crop_box(height: int, width: int, crop: str | None) -> Box:
    """Return (top, left, height, width) of the named crop; the whole image for None."""
    if crop is None:
        return 0, 0, height, width
    start, multiple = CROPS[crop]
    top, kept_height = start(height, multiple)
    left, kept_width = start(width, multiple)
    return top, left, kept_height, kept_width


def cut(image_CHW: Tensor, crop: str | None) -> Tensor:
    """Return a view of the image inside the named crop; cutting twice changes nothing."""
    top, left, height, width = crop_box(image_CHW.shape[-2], image_CHW.shape[-1], crop)
    return image_CHW[..., top : top + height, left : left + width]

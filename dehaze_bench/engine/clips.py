"""Test items of one picture, one clip or a whole video, restored frame by frame or clip by clip, as one list of frames.

A network that takes clips (B, T, 3, H, W) says so by `takes_clips`; all others see single frames.

Shape legend: B batch, T frames, C colour, H and W size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dehaze_bench.errors import JobError
from dehaze_bench.metrics.temporal import change_error


class Restore(Protocol):
    """Maps a picture (3, H, W) or a clip (T, 3, H, W) to the same shape."""

    def __call__(self, hazy: Tensor, /) -> Tensor: ...


class Prepare(Protocol):
    """The half of a protocol that comes before the network."""

    def prepare(self, hazy_CHW: Tensor, target_CHW: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Frame:
    """One restored picture; `clear_CHW` is None without truth."""

    name: str
    hazy_CHW: Tensor
    restored_CHW: Tensor
    clear_CHW: Tensor | None


def takes_clips(network: nn.Module) -> bool:
    """Whether a network sees several frames at once; a wrapper for parallel training is looked through."""
    return bool(getattr(getattr(network, "module", network), "takes_clips", False))


def as_frames(images: Tensor) -> Tensor:
    """Return (B, T, 3, H, W) as (B * T, 3, H, W), and pictures as they are."""
    return images.flatten(0, 1) if images.ndim == 5 else images


def is_video(item: Any) -> bool:
    """Whether a test item has frames in a row."""
    return hasattr(item, "clips") or item.hazy.ndim == 4


def windows_of(item: Any) -> Iterable[Any]:
    """Return the parts of a test item that a network sees at once: the `clips()` of a video, else the item itself."""
    windows: Iterable[Any] = item.clips() if hasattr(item, "clips") else [item]
    return windows


def count_frames(window: Any) -> int:
    """Return the number of frames of a clip, 1 for a picture."""
    return len(window.hazy) if window.hazy.ndim == 4 else 1


def change_errors(window: Sequence[Frame], before: Frame | None = None) -> list[float]:
    """Return the temporal error of each transition in a window, with that from the frame before; none without truth."""
    if any(frame.clear_CHW is None for frame in window):
        return []
    restored, clear = (
        torch.stack([image for frame in window if (image := getattr(frame, side)) is not None])
        for side in ("restored_CHW", "clear_CHW")
    )
    last = None if before is None or before.clear_CHW is None else (before.restored_CHW, before.clear_CHW)
    return change_error(restored, clear, last)


def restore_window(restore: Restore, window: Any, protocol: Prepare) -> list[Frame]:
    """Return the restored frames of a picture or clip; raises `JobError` where the values are not finite."""
    clip = window.hazy.ndim == 4
    num = count_frames(window)
    names = getattr(window, "names", None) or ([f"{window.name}/{i}" for i in range(num)] if clip else [window.name])
    hazy = window.hazy if clip else window.hazy[None]
    clear = [None] * num if window.clear is None else list(window.clear if clip else window.clear[None])
    prepared = [protocol.prepare(one, one if truth is None else truth) for one, truth in zip(hazy, clear, strict=True)]
    given = torch.stack([one for one, _ in prepared]) if clip else prepared[0][0]
    restored = restore(given)
    if not torch.isfinite(restored).all():
        raise JobError(f"The network gave non-finite values for '{names[0]}' ({tuple(given.shape)}).")
    return [
        Frame(name, one, made, None if truth is None else target)
        for name, (one, target), made, truth in zip(
            names, prepared, restored if clip else restored[None], clear, strict=True
        )
    ]

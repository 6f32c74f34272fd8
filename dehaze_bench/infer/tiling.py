"""Restore an image that is too large for memory: overlapping tiles, blended by raised cosines.

Shapes: B batch, C channel, H height, W width, P padded height or width, T tile side.

The padded image is cut into tiles of equal size whose corners are multiples of what the network needs, so
that a strided network sees the same phase in each. Along each axis tile i has a weight per pixel; ramps are
half periods of a raised cosine over the overlap with the neighbour, and the weights of all tiles are divided
by their sum: they add up to one at every pixel, however many tiles cover it. Networks with global context
(pooling, attention or a scan over the whole image) see one tile at a time; their result differs from the
untiled one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dehaze_bench.errors import UsageError
from dehaze_bench.infer.pad import check_image, evaluating, multiple_of, pad_to_multiple, run


def restore_tiled(
    model: nn.Module,
    image_CHW: Tensor,
    tile: int,
    overlap: int = 32,
    *,
    device: torch.device | str,
    on_tile: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return the restored image, float32, not clamped, on the device of `image_CHW`.

    A clip (T, 3, H, W) for a network that takes clips is cut into the same tiles in all its frames. One tile at a
    time goes to `device`; the sum stays where the image is. `overlap` is the least overlap of neighbouring tiles
    in pixels. `on_tile(done, total)` is called after each. A tile that covers the image gives exactly what
    `restore` gives. Raises UsageError as `check_tile` and `restore` do.
    """
    check_image(image_CHW if image_CHW.ndim == 3 else image_CHW[0])
    multiple = multiple_of(model)
    check_tile(tile, overlap, multiple)
    height, width = image_CHW.shape[-2:]
    with evaluating(model), torch.inference_mode():
        padded_BCHW = pad_to_multiple(image_CHW[None].float(), multiple)
        rows = place_tiles(padded_BCHW.shape[-2], tile, overlap, multiple)
        columns = place_tiles(padded_BCHW.shape[-1], tile, overlap, multiple)
        row_weights = [weights.to(image_CHW.device) for weights in blend_weights(rows)]
        column_weights = [weights.to(image_CHW.device) for weights in blend_weights(columns)]
        out_CHW = torch.zeros_like(padded_BCHW[0])
        done, total = 0, len(rows) * len(columns)
        for (top, bottom), weights_H in zip(rows, row_weights, strict=True):
            for (left, right), weights_W in zip(columns, column_weights, strict=True):
                piece_BCHW = run(model, padded_BCHW[..., top:bottom, left:right].to(device))
                piece_CHW = piece_BCHW[0].float().to(image_CHW.device)
                out_CHW[..., top:bottom, left:right] += piece_CHW * weights_H[:, None] * weights_W
                done += 1
                if on_tile is not None:
                    on_tile(done, total)
        return out_CHW[..., :height, :width]


def check_tile(tile: int, overlap: int, multiple: int) -> None:
    """Raise UsageError unless `tile` is a multiple of `multiple` and the overlap leaves room to advance."""
    if tile < 1 or tile % multiple:
        below, above = tile // multiple * multiple, (tile // multiple + 1) * multiple
        fitting = f"{below} or {above}" if below > 0 else str(max(above, multiple))
        raise UsageError(f"tile={tile} is not a multiple of {multiple}, which the model needs: use tile={fitting}.")
    if overlap < 0 or overlap > tile - multiple:
        raise UsageError(
            f"overlap={overlap} does not fit tile={tile}: use a value from 0 to {tile - multiple}, "
            f"for example overlap={tile // 8}, or a larger tile."
        )


def place_tiles(size: int, tile: int, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """Return evenly spread (start, stop) pairs that cover `size`, starts at multiples of `multiple`.

    `size` and `tile` are multiples of `multiple`. Neighbours overlap by at least `overlap`.
    """
    if size <= tile:
        return [(0, size)]
    # In units of `multiple`, so that rounding starts down never widens a gap beyond one stride.
    stride = (tile - overlap) // multiple
    room = (size - tile) // multiple
    num_gaps = -(-room // stride)
    return [(i * room // num_gaps * multiple, i * room // num_gaps * multiple + tile) for i in range(num_gaps + 1)]


def blend_weights(spans: list[tuple[int, int]]) -> list[Tensor]:
    """Return one weight vector per span; at each pixel the weights of all spans add up to one."""
    size = spans[-1][1]
    weights = []
    for i, (start, stop) in enumerate(spans):
        weight = torch.ones(stop - start, dtype=torch.float64)
        if i > 0:
            shared = spans[i - 1][1] - start
            weight[:shared] *= _ramp(shared)
        if i + 1 < len(spans):
            shared = stop - spans[i + 1][0]
            weight[stop - start - shared :] *= _ramp(shared).flip(0)
        weights.append(weight)
    total_P = torch.zeros(size, dtype=torch.float64)
    for (start, stop), weight in zip(spans, weights, strict=True):
        total_P[start:stop] += weight
    return [(weight / total_P[start:stop]).float() for (start, stop), weight in zip(spans, weights, strict=True)]


def _ramp(length: int) -> Tensor:
    """Return the rising half of a raised cosine, sampled at pixel centres: above 0 and below 1."""
    phase = (torch.arange(length, dtype=torch.float64) + 0.5) / max(length, 1)
    return 0.5 - 0.5 * torch.cos(torch.pi * phase)

"""Haze that is left to the device: what a training set has drawn, and the batched arithmetic that adds it.

The workers send clear crops and distance; I = J t + A (1 - t) with t = exp(-beta d), on J darkened by a power, is done
for all pictures of a batch at once, on whatever device they are. Shapes: B batch, N pictures under a veil, C colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dehaze_bench.data.pairs import Sample


@dataclass(frozen=True)
class Veils:
    """The haze of some pictures of a batch: `rows` says which; beta is per unit of distance."""

    rows: tuple[int, ...]
    distance_NHW: torch.Tensor
    beta_N: torch.Tensor
    airlight_NC: torch.Tensor
    gamma_N: torch.Tensor


def gather(samples: Sequence[Sample]) -> Veils | None:
    """Return the veils of a batch, None where no sample has one."""
    found = [(row, sample.veil) for row, sample in enumerate(samples) if sample.veil is not None]
    if not found:
        return None
    veils = [veil for _, veil in found]
    distance_NHW = torch.empty((len(veils), *veils[0].distance_HW.shape))
    for slot, veil in zip(distance_NHW.numpy(), veils, strict=True):
        slot[...] = veil.distance_HW
    return Veils(
        tuple(row for row, _ in found),
        distance_NHW,
        torch.tensor([veil.beta for veil in veils]),
        torch.tensor([veil.airlight for veil in veils]),
        torch.tensor([veil.gamma for veil in veils]),
    )


def cover(hazy_BCHW: torch.Tensor, veils: Veils) -> None:
    """Add the haze to those pictures, in place, and round them to 8 bits as files on disk are."""
    device = hazy_BCHW.device
    rows = torch.tensor(veils.rows, device=device)
    shade_N111 = veils.gamma_N.to(device, non_blocking=True).reshape(-1, 1, 1, 1)
    beta_N111 = veils.beta_N.to(device, non_blocking=True).reshape(-1, 1, 1, 1)
    airlight_NC11 = veils.airlight_NC.to(device, non_blocking=True)[..., None, None]
    t_N1HW = torch.exp(-beta_N111 * veils.distance_NHW.to(device, non_blocking=True)[:, None])
    clear_NCHW = hazy_BCHW[rows]
    if bool((veils.gamma_N != 1).any()):  # on the host: no waiting for the device
        clear_NCHW = clear_NCHW**shade_N111
    hazy_NCHW = (clear_NCHW - airlight_NC11) * t_N1HW + airlight_NC11
    levels = torch.full((), 255.0, device=device)  # CUDA divides by a tensor, and by a plain number it multiplies
    hazy_BCHW[rows] = (hazy_NCHW.clamp(0, 1) * levels).round() / levels

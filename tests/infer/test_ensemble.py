"""Self-ensemble: eight symmetries, each turned back; what commutes with them comes back as it was."""

from __future__ import annotations

import torch
from torch import Tensor

from dehaze_bench.infer.ensemble import restore_ensemble


def test_a_network_that_commutes_with_symmetries_gives_what_it_gave() -> None:
    image_CHW = torch.rand(3, 5, 8)
    restored_CHW = restore_ensemble(lambda x: x.square(), image_CHW)
    torch.testing.assert_close(restored_CHW, image_CHW.square())


def test_the_result_is_the_mean_over_all_eight() -> None:
    seen: list[Tensor] = []

    def shift(x_CHW: Tensor) -> Tensor:
        seen.append(x_CHW)
        return x_CHW.roll(1, -1)

    image_CHW = torch.rand(3, 4, 6)
    restored_CHW = restore_ensemble(shift, image_CHW)
    assert len({tuple(x.flatten().tolist()) for x in seen}) == 8
    # Shifting along the last axis of the eight views shifts twice each way along both axes of the image.
    shifts = [image_CHW.roll(s, d) for s in (1, -1) for d in (-1, -2)]
    torch.testing.assert_close(restored_CHW, torch.stack(shifts).mean(0))


def test_the_result_commutes_with_symmetries_whatever_the_network() -> None:
    def shift(x_CHW: Tensor) -> Tensor:
        return x_CHW.roll(1, -1)

    image_CHW = torch.rand(3, 4, 6)
    turned_CHW = restore_ensemble(shift, torch.rot90(image_CHW, 1, (-2, -1)))
    torch.testing.assert_close(turned_CHW, torch.rot90(restore_ensemble(shift, image_CHW), 1, (-2, -1)))

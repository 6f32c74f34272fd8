"""The range in which a published network works, where it is not [0, 1].

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Normalisation(NamedTuple):
    """(x - mean) / std of an RGB image in [0, 1] before a network; `undone` says that its output is mapped back.

    Each of `mean` and `std` is one number per channel. Without `undone` a network answers in [0, 1] by itself.
    """

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    undone: bool = True

    def apply(self, x_BCHW: Tensor) -> Tensor:
        """Map an image in [0, 1] to the range of the network."""
        return (x_BCHW - _column(self.mean, x_BCHW)) / _column(self.std, x_BCHW)

    def undo(self, y_BCHW: Tensor) -> Tensor:
        """Map what the network returned to [0, 1]; nothing is clamped."""
        return y_BCHW * _column(self.std, y_BCHW) + _column(self.mean, y_BCHW) if self.undone else y_BCHW


SYMMETRIC = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # [-1, 1]
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # of the training pictures of DIV2K, taken off by SwinIR and its descendants


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(values)[:, None, None]

"""GridDehazeNet: a grid of dense blocks over three scales, its columns joined by learned channel weights.

Liu, Ma, Shi, Chen, ICCV 2019, arXiv 1908.03245.

| size           | parameters | MACs at 256 x 256 |
|----------------|------------|-------------------|
| 3 x 6, 16 wide | 958,051    | 18.71 G           |

Follows proteus1991/GridDehazeNet. The published number of parameters counts `coefficient` whole, although row r uses
its first 16 * 2^r channels alone. The 21.49 G of the literature count a transposed convolution at the pixels of its
output. Deviation: none.

Shape legend: B batch, C channels, H and W size.
"""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.dense import ResidualDenseBlock
from dehaze_bench.nn.normalisation import SYMMETRIC

STRIDE = 2


class GridDehazeNet(nn.Module):
    """Rows are scales, columns are steps: the first half of the columns leads down, the second half up.

    Along a row features pass a residual dense block of `layers` convolutions with `growth` channels each; between rows
    they are halved or doubled. Where both meet they are weighted per channel (`coefficient`, ones at first) and added.
    Any height and width: going up, the size is that of the row above.
    """

    multiple = 1
    normalisation = SYMMETRIC._replace(undone=False)
    output_range = "[0, 1], at least 0, not clamped above"

    def __init__(self, height: int = 3, width: int = 6, dim: int = 16, layers: int = 4, growth: int = 16) -> None:
        super().__init__()
        if height < 2 or width < 4:
            raise UsageError(
                f"GridDehazeNet has at least two rows and four columns, not height={height} and width={width}: use "
                "height=3, width=6"
            )
        if min(dim, layers, growth) < 1:
            raise UsageError(
                f"GridDehazeNet needs dim, layers and growth of at least 1, not {dim}, {layers} and {growth}"
            )
        self.height, self.width = height, width
        dims = [dim * STRIDE**row for row in range(height)]
        half = width // 2
        self.coefficient = nn.Parameter(torch.ones(height, width, 2, dims[-1]))
        self.conv_in = nn.Conv2d(3, dim, 3, padding=1)
        self.rdb_in = ResidualDenseBlock(dim, layers, growth)
        self.rdb_module = nn.ModuleDict(
            {f"{row}_{i}": ResidualDenseBlock(dims[row], layers, growth) for row, i in _pairs(height, width - 1)}
        )
        self.downsample_module = nn.ModuleDict(
            {f"{row}_{i}": DownSample(dims[row]) for row, i in _pairs(height - 1, half)}
        )
        self.upsample_module = nn.ModuleDict(
            {f"{row}_{half + i}": UpSample(dims[row + 1]) for row, i in _pairs(height - 1, width - half)}
        )
        self.rdb_out = ResidualDenseBlock(dim, layers, growth)
        self.conv_out = nn.Conv2d(dim, 3, 3, padding=1)

    def forward(self, hazy_BCHW: Tensor) -> Tensor:
        return self.normalisation.undo(self.restore(self.normalisation.apply(hazy_BCHW)))

    def restore(self, x_BCHW: Tensor) -> Tensor:
        """Map an image in [-1, 1] to a restored one in [0, 1]."""
        top = self.rdb_in(self.conv_in(x_BCHW))
        column = [top]
        for row in range(1, self.height):
            column.append(self.downsample_module[f"{row - 1}_0"](column[-1]))
        for number in range(1, self.width):
            column = self._go_down(column, number) if number < self.width // 2 else self._go_up(column, number)
        return self.conv_out(self.rdb_out(column[0])).relu()

    def _go_down(self, left: list[Tensor], number: int) -> list[Tensor]:
        """Return a column of the first half, top row first, from the one before it."""
        column: list[Tensor] = []
        for row, x_BCHW in enumerate(left):
            x_BCHW = self._along(row, number, x_BCHW)
            if row:
                x_BCHW = self._join(row, number, x_BCHW, self.downsample_module[f"{row - 1}_{number}"](column[-1]))
            column.append(x_BCHW)
        return column

    def _go_up(self, left: list[Tensor], number: int) -> list[Tensor]:
        """Return a column of the second half, top row first, from the one before it."""
        column: list[Tensor] = []
        for row in reversed(range(self.height)):
            x_BCHW = self._along(row, number, left[row])
            if column:
                above = self.upsample_module[f"{row}_{number}"](column[-1], x_BCHW.shape[2:])
                x_BCHW = self._join(row, number, x_BCHW, above)
            column.append(x_BCHW)
        return column[::-1]

    def _along(self, row: int, number: int, x_BCHW: Tensor) -> Tensor:
        block: Tensor = self.rdb_module[f"{row}_{number - 1}"](x_BCHW)
        return block

    def _join(self, row: int, number: int, along_BCHW: Tensor, across_BCHW: Tensor) -> Tensor:
        weights_2C11 = self.coefficient[row, number, :, : along_BCHW.shape[1], None, None]
        return weights_2C11[0] * along_BCHW + weights_2C11[1] * across_BCHW


class DownSample(nn.Module):
    """Half the resolution, then twice the channels, by rectified 3x3 convolutions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, STRIDE, 1)
        self.conv2 = nn.Conv2d(dim, STRIDE * dim, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv2(self.conv1(x_BCHW).relu()).relu()


class UpSample(nn.Module):
    """Twice the resolution, to the size asked for, then half the channels, rectified both."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(dim, dim, 3, STRIDE, 1)
        self.conv = nn.Conv2d(dim, dim // STRIDE, 3, padding=1)

    def forward(self, x_BCHW: Tensor, size: torch.Size) -> Tensor:
        return self.conv(self.deconv(x_BCHW, output_size=size).relu()).relu()


def _pairs(rows: int, columns: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(rows) for column in range(columns)]

"""Windows of a picture: cutting, joining, and attention that a cyclic shift does not mislead."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dehaze_bench.nn.windows import WindowAttention, attend_in_windows, cut_windows, join_windows


def test_windows_are_joined_again() -> None:
    x_BHWC = torch.rand(2, 6, 9, 4)
    windows = cut_windows(x_BHWC, 3)
    assert windows.shape == (2 * 2 * 3, 9, 4)
    assert torch.equal(windows[1], x_BHWC[0, :3, 3:6].flatten(0, 1))
    assert torch.equal(join_windows(windows, 3, (6, 9)), x_BHWC)


def masked(attention: WindowAttention, x_BHWC: Tensor, window: int, shift: int) -> Tensor:
    """Return shifted-window attention pixel by pixel: who shares a window after the shift, and did before it."""
    _, height, width, _ = x_BHWC.shape
    rows, columns = (((torch.arange(n) - shift) % n, torch.arange(n)) for n in (height, width))
    out = torch.empty_like(x_BHWC)
    for r in range(height):
        for c in range(width):
            tokens, places = [], []
            for r2 in range(height):
                for c2 in range(width):
                    at = [(int(rows[0][r2]), int(columns[0][c2])), (int(rows[0][r]), int(columns[0][c]))]
                    together = at[0][0] // window == at[1][0] // window and at[0][1] // window == at[1][1] // window
                    near = abs(r2 - r) < window and abs(c2 - c) < window
                    seam = (r2 < shift) == (r < shift) and (c2 < shift) == (c < shift)
                    if together and near and seam:
                        tokens.append(x_BHWC[:, r2, c2])
                        places.append((r2 - r, c2 - c))
            q, k, v = (
                part.unflatten(-1, (attention.heads, -1))
                for part in attention.qkv(torch.stack([x_BHWC[:, r, c], *tokens], 1)).chunk(3, -1)
            )
            side = 2 * window - 1
            index = torch.tensor([(window - 1 - dr) * side + window - 1 - dc for dr, dc in places])
            bias = attention.relative_position_bias_table[index].T
            scores = torch.einsum("bhd,bthd->bht", q[:, 0], k[:, 1:]) / q.shape[-1] ** 0.5 + bias
            out[:, r, c] = attention.proj(torch.einsum("bht,bthd->bhd", scores.softmax(-1), v[:, 1:]).flatten(1))
    return out


@pytest.mark.parametrize(("size", "shift"), [((8, 12), 0), ((8, 12), 2), ((4, 4), 2), ((4, 8), 1), ((12, 4), 3)])
def test_shifted_windows_hold_neighbours_alone(size: tuple[int, int], shift: int) -> None:
    torch.manual_seed(0)
    attention = WindowAttention(6, 2, 4)
    with torch.no_grad():
        attention.relative_position_bias_table.normal_()
        x_BHWC = torch.randn(2, *size, 6)
        found = attend_in_windows(attention, x_BHWC, 4, shift)
        torch.testing.assert_close(found, masked(attention, x_BHWC, 4, shift), atol=1e-5, rtol=1e-5)

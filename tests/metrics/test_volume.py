"""The SSIM over three axes: the compiled sum against torch's convolution, and what float32 does to it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dehaze_bench.metrics import CONVENTIONS
from dehaze_bench.metrics.volume import gaussian_volume, smooth_volume


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (37, 18)])
def test_the_compiled_sum_is_the_convolution(size: tuple[int, int]) -> None:
    torch.manual_seed(2)
    x_MCHW = 255 * torch.rand(2, 3, *size)
    x_MHWC = F.pad(x_MCHW.permute(0, 2, 3, 1)[:, None], (5,) * 6, mode="replicate")
    expected = F.conv3d(x_MHWC, torch.from_numpy(gaussian_volume())[None, None])[:, 0].permute(0, 3, 1, 2)
    torch.testing.assert_close(smooth_volume(x_MCHW), expected, rtol=1e-6, atol=0)


def test_threads_do_not_change_it() -> None:
    torch.manual_seed(3)
    x_MCHW, threads = torch.rand(5, 3, 50, 20), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = smooth_volume(x_MCHW)
        torch.set_num_threads(3)
        assert torch.equal(smooth_volume(x_MCHW), alone)
    finally:
        torch.set_num_threads(threads)


def test_flat_bright_pictures_carry_the_rounding_of_float32() -> None:
    """Nearly white pictures that differ by noise: exact arithmetic gives less, as on the bright walls of ITS."""
    torch.manual_seed(4)
    clear, other = (torch.randint(250, 254, (3, 48, 48)) / 255 for _ in range(2))
    found = CONVENTIONS["ssim_gauss3d"](other, clear)
    x, y = (255 * image.double() for image in (other, clear))
    weights = torch.from_numpy(gaussian_volume()).double()[None, None]

    def smooth(image_CHW: torch.Tensor) -> torch.Tensor:
        image_HWC = F.pad(image_CHW.permute(1, 2, 0)[None, None], (5,) * 6, mode="replicate")
        return F.conv3d(image_HWC, weights)[0, 0]

    mean_x, mean_y = smooth(x), smooth(y)
    both = mean_x.square() + mean_y.square()
    spread = smooth(x * x) + smooth(y * y) - both
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    covariance = smooth(x * y) - mean_x * mean_y
    exact = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((both + c1) * (spread + c2))).mean()
    assert 1e-4 < found - float(exact) < 5e-3

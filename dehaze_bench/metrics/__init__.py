"""Image quality under named conventions: PSNR, SSIM, CIEDE2000 as published repositories compute them."""

from dehaze_bench.metrics.conventions import CONVENTIONS, Convention
from dehaze_bench.metrics.protocol import Protocol
from dehaze_bench.metrics.psnr import psnr

__all__ = ["CONVENTIONS", "Convention", "Protocol", "psnr"]

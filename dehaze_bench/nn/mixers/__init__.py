"""Sequence mixers: each maps (B, L, C) to (B, L, C) and knows nothing of images."""

from dehaze_bench.nn.mixers.attention import WindowAttention
from dehaze_bench.nn.mixers.conv import GatedConv
from dehaze_bench.nn.mixers.mamba import Mamba
from dehaze_bench.nn.mixers.mixer import Mixer
from dehaze_bench.nn.mixers.wkv import BiWKV

__all__ = ["BiWKV", "GatedConv", "Mamba", "Mixer", "WindowAttention"]

"""Sequence mixers: each maps (B, L, C) to (B, L, C) and knows nothing of images."""

from dehaze_bench.nn.mixers.attention import WindowAttention
from dehaze_bench.nn.mixers.conv import GatedConv
from dehaze_bench.nn.mixers.graph import GraphConv
from dehaze_bench.nn.mixers.gru import GRU
from dehaze_bench.nn.mixers.hybrid import Alternating, Hybrid
from dehaze_bench.nn.mixers.mamba import Mamba
from dehaze_bench.nn.mixers.mamba2 import Mamba2
from dehaze_bench.nn.mixers.mixer import Mixer
from dehaze_bench.nn.mixers.s4d import S4D
from dehaze_bench.nn.mixers.wkv import BiWKV

__all__ = [
    "GRU",
    "S4D",
    "Alternating",
    "BiWKV",
    "GatedConv",
    "GraphConv",
    "Hybrid",
    "Mamba",
    "Mamba2",
    "Mixer",
    "WindowAttention",
]

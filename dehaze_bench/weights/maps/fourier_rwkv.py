"""Dilizlr/Fourier-RWKV."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.vrwkv import map_vrwkv

# Stages, maps between them and skips are lists here; those of the decoder run from level 3 to level 1.
_LISTS = (
    (re.compile(r"^encoder\.enhanceBlock(\d)\."), "encoder", lambda level: level - 1),
    (re.compile(r"^encoder\.dw(\d)\.body\.0\."), "down", lambda level: level - 1),
    (re.compile(r"^decoder\.up(\d)\.body\.0\."), "up", lambda level: f"{3 - level}.0"),
    (re.compile(r"^decoder\.fuse(\d)\."), "fuse", lambda level: 3 - level),
    (re.compile(r"^decoder\.enhanceBlock(\d)\."), "decoder", lambda level: 3 - level),
)
_RENAMED = (
    (r"^encoder\.head\.", "head."),
    (r"^decoder\.tail\.", "tail."),
    (r"\.patch_embed\.projection\.", ".patch_embed.proj."),
    (r"\.shift_func\.", ".shift."),
)


def map_fourier_rwkv(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Levels to lists; what bi-WKV and token shifts learn as in Vision-RWKV."""
    found = {}
    for name, tensor in published.items():
        for pattern, part, place in _LISTS:
            if match := pattern.match(name):
                name = f"{part}.{place(int(match[1]))}.{name[match.end() :]}"
                break
        for old, new in _RENAMED:
            name = re.sub(old, new, name)
        found[name] = tensor
    return map_vrwkv(found)

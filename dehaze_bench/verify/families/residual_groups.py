"""What the fixtures of MambaIR and MambaIRv2 share: the arguments of the frame and where arrays are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from dehaze_bench.verify.built import Tap, to_tokens
from dehaze_bench.verify.families.vss import allow
from dehaze_bench.verify.fixture import BuildArguments


def take_frame(arguments: BuildArguments) -> dict[str, Any]:
    """Return the sizes of the frame; `img_size` changes nothing, as a token is a pixel."""
    arguments.optional("img_size", 64)
    arguments.optional("published", "")
    allow(arguments, "patch_size", 1)
    allow(arguments, "patch_norm", True)
    return {
        "dim": arguments.take("embed_dim"),
        "depths": arguments.take("depths"),
        "upsampler": arguments.optional("upsampler", "") or "",
        "upscale": arguments.take("upscale"),
        "connection": arguments.optional("resi_connection", "1conv"),
        "channels": arguments.optional("in_chans", 3),
        "image_range": arguments.optional("img_range", 1.0),
    }


def group_taps(depths: Sequence[int], parts: Mapping[str, Tap]) -> dict[str, Tap]:
    """Return where arrays are: the stem, the last norm, groups and blocks by number, and `parts` of every block."""
    taps = {"stem": Tap("conv_first"), "norm": Tap("norm", to_tokens)}
    number = 0
    for group, depth in enumerate(depths):
        taps[f"group{group}"] = Tap(f"layers.{group}", to_tokens)
        for place in range(depth):
            block = f"layers.{group}.blocks.{place}"
            taps[f"block{number}"] = Tap(block, to_tokens)
            taps |= {f"{name}{number}": Tap(f"{block}.{tap.path}", tap.change) for name, tap in parts.items()}
            number += 1
    return taps


def picture_to_tokens(x_BCHW: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, L, C)."""
    return x_BCHW.flatten(2).transpose(1, 2)

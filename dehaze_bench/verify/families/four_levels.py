"""What the fixtures of the networks in Restormer's skeleton (nn/four_levels.py) share: arguments and arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.nn.prenorm import NORMS
from dehaze_bench.verify.built import Tap
from dehaze_bench.verify.families.vss import allow
from dehaze_bench.verify.fixture import BuildArguments

LEVELS = (*(f"{side}_level{level}" for side in ("encoder", "decoder") for level in (1, 2, 3)), "latent", "refinement")


def take_skeleton(arguments: BuildArguments) -> dict[str, Any]:
    """Return sizes and channels; the two-picture form is refused, "published" and "other" are remarks."""
    arguments.optional("published", "")
    allow(arguments, "other", "official defaults")
    allow(arguments, "dual_pixel_task", False)
    channels = arguments.optional("inp_channels", 3)
    if arguments.optional("out_channels", channels) != channels:
        raise UsageError(f"{arguments.fixture.path}: out_channels must be inp_channels={channels}, which are added.")
    return {
        "dim": arguments.take("dim"),
        "depths": arguments.take("num_blocks"),
        "refinement": arguments.take("num_refinement_blocks"),
        "bias": arguments.optional("bias", False),
        "channels": channels,
    }


def take_norm(arguments: BuildArguments) -> str:
    """Return the norm of the blocks, under any of the names that the argument has."""
    for name in ("LayerNorm_type", "layernorm_type"):
        if name in arguments.left:
            value = str(arguments.take(name)).lower()
            if value not in NORMS:
                raise UsageError(f"{arguments.fixture.path}: {name}={value!r} is not known. {nearest(value, NORMS)}")
            return value
    return "withbias"


def level_taps(change: Callable[[Tensor], Tensor] | None = None) -> dict[str, Tap]:
    """Return where features are, by the names that they have in fixtures; `change` is that of (B, C, H, W)."""
    taps = {name: Tap(name, change) for name in LEVELS}
    return taps | {name: Tap("patch_embed", change) for name in ("stem", "patch_embed")}

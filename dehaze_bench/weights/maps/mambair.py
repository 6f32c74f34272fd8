"""csguoh/MambaIR, the first version and its U-shaped build."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dehaze_bench.weights.maps.vmamba import rename

# The frame of SwinIR, in nn/residual_groups.py.
FRAME = (
    (r"^((module|net_g)\.)+", ""),
    (r"^patch_embed\.(norm|proj)\.", "patch_embed."),
    (r"\.residual_group\.(blocks|layers)\.", ".blocks."),
    (r"^(conv_before_upsample|upsample|conv_up\d|conv_hr|conv_last)\.", r"reconstruction.\1."),
)
# Channel attention: the shell around a sequence, and the mean that is no layer in ours.
CHANNELS = ((r"\.cab\.", "."), (r"\.attention\.1\.", ".ca.0."), (r"\.attention\.3\.", ".ca.2."))
ROUTES = ((r"\.(x_proj_weight|dt_projs_weight|dt_projs_bias|A_logs|Ds)$", r".core.\1"),)


def map_mambair(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Frame, channel attention and routes, each by a few rules."""
    return rename(published, (*FRAME, *CHANNELS, *ROUTES))

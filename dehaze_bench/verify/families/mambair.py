"""MambaIR: the first version, its U-shaped build, and the second version."""

from __future__ import annotations

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.mambair import MambaIR, MambaIRUNet
from dehaze_bench.verify.built import Built, Tap
from dehaze_bench.verify.families import mambairv2
from dehaze_bench.verify.families.four_levels import level_taps, take_skeleton
from dehaze_bench.verify.families.residual_groups import group_taps, picture_to_tokens, take_frame
from dehaze_bench.verify.families.vss import allow
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.mambair import map_mambair


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes; which one it is shows in the arguments that it has."""
    if "num_tokens" in arguments.left:
        return mambairv2.build(fixture, arguments)
    if "num_blocks" in arguments.left:
        return _build_unet(fixture, arguments)
    frame = take_frame(arguments)
    if frame["upsampler"] == "nearest+conv":
        raise UsageError(f"{fixture.path}: the published first version has no upsampler 'nearest+conv'")
    for name in ("window_size", "num_heads", "interval"):  # in some released options, and read by nobody
        arguments.optional(name, None)
    network = MambaIR(
        **frame,
        d_state=arguments.optional("d_state", 16),
        expand=arguments.optional("mlp_ratio", 2.0),
        light=frame["upsampler"] == "pixelshuffledirect",
        drop_path=arguments.optional("drop_path_rate", 0.1),
    )
    taps = group_taps(frame["depths"], {"ss2d": Tap("self_attention")})
    return Built(network, map_mambair, (fixture.image(),), taps)


def _build_unet(fixture: Fixture, arguments: BuildArguments) -> Built:
    allow(arguments, "bias", False)
    sizes = take_skeleton(arguments)
    del sizes["bias"]
    expand, drop_path = arguments.optional("mlp_ratio", 2.0), arguments.optional("drop_path_rate", 0.0)
    network = MambaIRUNet(**sizes, expand=expand, drop_path=drop_path)
    return Built(network, map_mambair, (fixture.image(),), level_taps(picture_to_tokens))

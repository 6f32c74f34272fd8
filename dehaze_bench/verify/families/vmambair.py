"""VmambaIR: both variants, and their scan alone."""

from __future__ import annotations

import re

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.vmambair import CROSS, VARIANTS, OmniScan, VmambaIR
from dehaze_bench.verify.built import Built, Tap, to_channels_first
from dehaze_bench.verify.families.four_levels import level_taps, take_norm, take_skeleton
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.vmambair import map_vmambair

GDFN = re.compile(r"GDFN(?:[ ,]+(?:expansion )?factor)?[ ,]*(?P<factor>\d+(?:\.\d+)?)?", re.IGNORECASE)


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes, or a scan where it states no blocks."""
    variant = _take_variant(arguments)
    if "num_blocks" not in arguments.left:
        return _build_scan(fixture, arguments, variant)
    arguments.optional("heads", None)  # in the released options, and read by nobody
    network = VmambaIR(
        **take_skeleton(arguments),
        variant=variant,
        d_state=arguments.optional("d_state", 16),
        ratio=arguments.optional("ssm_ratio", 1.0),
        ffn_expansion=_take_expansion(arguments),
        norm=take_norm(arguments),
    )
    taps = level_taps() | {"oss0": Tap("encoder_level1.0.attn", to_channels_first)}
    return Built(network, map_vmambair, (fixture.image(),), taps)


def _build_scan(fixture: Fixture, arguments: BuildArguments, variant: str) -> Built:
    scan = OmniScan(
        dim=arguments.take("dim"),
        scan=CROSS,
        variant=variant,
        d_state=arguments.optional("d_state", 16),
        ratio=arguments.optional("ssm_ratio", 2.0),
    )
    taps = {
        "in_conv": Tap("in_proj", to_channels_first),
        "out_norm": Tap("out_norm", to_channels_first),
        "channel_norm": Tap("channels.norm", lambda x_BD: x_BD[..., None, None]),
    }
    image_BCHW = fixture.image()
    return Built(
        scan, map_vmambair, (image_BCHW,), taps, call=lambda x_BCHW: scan(x_BCHW.movedim(1, -1)).movedim(-1, 1)
    )


def _take_variant(arguments: BuildArguments) -> str:
    """Return the variant by the file that the fixture names, or by its own name where it names none."""
    stated = str(arguments.optional("file", arguments.fixture.model))
    found = [variant for variant in VARIANTS if variant in stated.lower()]
    if len(found) != 1:
        raise UsageError(f"{arguments.fixture.path}: '{stated}' must name one of the variants {', '.join(VARIANTS)}.")
    return found[0]


def _take_expansion(arguments: BuildArguments) -> float:
    """Return the expansion of the feed-forward layers, as a number or in the words "GDFN, factor 2.66"."""
    found = GDFN.fullmatch(str(arguments.optional("ffn", "GDFN")).strip())
    if found is None:
        raise UsageError(f"{arguments.fixture.path}: build argument ffn is not understood: 'GDFN, factor 2.66' is.")
    stated = float(found["factor"] or 2.66)
    return float(arguments.optional("ffn_expansion_factor", stated))

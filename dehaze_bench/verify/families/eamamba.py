"""EAMamba."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.eamamba import FEED_FORWARD, EAMamba
from dehaze_bench.scans import Grid, Scan
from dehaze_bench.scans.curves import morton
from dehaze_bench.scans.diagonal import diagonal
from dehaze_bench.scans.grid import Order, token_ids
from dehaze_bench.verify.built import Built, Tap, to_tokens
from dehaze_bench.verify.families.four_levels import level_taps, take_norm, take_skeleton
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights.maps.eamamba import map_eamamba

ORDERS: dict[str, Order] = {
    "diagonal": partial(diagonal, corners=("left",), reverse=False),
    "zigzag": partial(diagonal, corners=("left",), reverse=False, continuous=True),
    "zorder": morton,
}
COUNTS = (1, 2, 4, 8)
MERGES = {"concate": True, "add": False}  # whether routes have their own channels


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network that the fixture describes."""
    arguments.expect("upscale", 1)  # left out, the published code builds the network for twofold enlargement
    for name in ("checkpoint_percentage", "heads"):  # how to save memory; in some options, and read by nobody
        arguments.optional(name, None)
    network = EAMamba(
        **take_skeleton(arguments),
        ffn=_take_mixer(arguments),
        ffn_expansion=arguments.optional("ffn_expansion_factor", 2.0),
        norm=take_norm(arguments),
        **_take_scan(arguments),
    )
    taps = level_taps() | {"mixer0": Tap("encoder_level1.0.attn", to_tokens)}
    return Built(network, map_eamamba, (fixture.image(),), taps)


def published_orders(grid: Grid, kind: str | None, count: int) -> np.ndarray:
    """Return the routes of the released code (K, L): one order on the picture, turned by 180 degrees, and mirrored.

    Of eight, the last four are rows and columns, there and back, which are all that `kind` None has. On its "zigzag"
    the first diagonal runs upwards where the height is even.
    """
    ids_HW = token_ids(grid, "published_orders", axes=2)
    plain = [ids_HW.reshape(-1), ids_HW.reshape(-1)[::-1], ids_HW.T.reshape(-1), ids_HW.T.reshape(-1)[::-1]]
    if kind is None:
        return np.stack(plain[:count])
    views = [ids_HW, ids_HW[::-1, ::-1], ids_HW[:, ::-1], ids_HW[::-1]]
    if kind == "zigzag" and grid[0] % 2:
        views = [view.T for view in views]
    (walk_L,) = ORDERS[kind](views[0].shape)
    return np.stack([*(view.reshape(-1)[walk_L] for view in views), *plain][:count])


def _take_mixer(arguments: BuildArguments) -> str:
    names = [name for name in ("channel_mixer", "channel_mixer_type") if name in arguments.left]
    value = str(arguments.take(names[0])).lower() if names else "simple"
    if value not in FEED_FORWARD:
        raise UsageError(
            f"{arguments.fixture.path}: {names[0]}={value!r} is not supported, only {', '.join(FEED_FORWARD)}."
        )
    return value


def _take_scan(arguments: BuildArguments) -> dict[str, Any]:
    """Return the arguments of the mixer, which are a table of their own."""
    stated = arguments.take("mamba_cfg")
    where = f"{arguments.fixture.path}: build argument mamba_cfg"
    if not isinstance(stated, dict):
        raise UsageError(f"{where} is {stated!r} instead of a table.")
    given = dict(stated)
    kind, num_routes = given.pop("scan_type", None), given.pop("scan_count", None)
    merge = given.pop("scan_merge_method", None)
    kind = None if kind in (None, "None", "none") else str(kind).lower()
    known = ORDERS if num_routes == 8 else (None, *ORDERS)  # none has four routes at the most
    if kind not in known or num_routes not in COUNTS or (merge not in MERGES and num_routes > 1):
        raise UsageError(
            f"{where}: scan_type={kind!r}, scan_count={num_routes!r}, scan_merge_method={merge!r} are not supported, "
            f"only {', '.join(ORDERS)} of 1, 2, 4 or 8 routes, or none of up to 4, and concate or add."
        )
    if not given.pop("conv_2d", False):
        raise UsageError(f"{where}: only conv_2d=true is supported.")
    found = {
        "scan": Scan(f"published {kind}", partial(published_orders, kind=kind, count=num_routes)),
        "heads": MERGES.get(merge, False),
        "gate": not given.pop("disable_z_branch", False),
        "d_state": given.pop("d_state", 16),
        "conv": given.pop("d_conv", 4),
        "expand": given.pop("expand", 2),
    }
    for name in given:
        raise UsageError(f"{where}: '{name}' is not understood.")
    return found

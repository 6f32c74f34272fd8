"""Fixtures of restorers without weights: the dark channel prior.

Shapes: B batch, C channel, H height, W width.
"""

from __future__ import annotations

from torch import Tensor

from dehaze_bench.models.restorers.dcp import DarkChannelPrior
from dehaze_bench.verify.compare import Row, compare_arrays
from dehaze_bench.verify.fixture import BuildArguments, Fixture


def check_dark_channel_prior(fixture: Fixture) -> list[Row]:
    """The dark channel prior: every step of the published definition and of the copied repository.

    The repository leaves the order of equal dark values to the sort, so its later steps start from the stored
    atmospheric light, as the notes of the fixture ask.
    """
    build = BuildArguments(fixture)
    epsilon = build.take("guided_eps")
    patch, omega, t0 = build.take("patch"), build.take("omega"), build.take("t0")
    top_fraction, radius = build.take("top_fraction"), build.take("guided_radius")
    build.finish()
    hazy_BCHW = fixture.tensor("image").permute(2, 0, 1)[None].double() / 255.0
    paper, repository = (
        DarkChannelPrior(patch, omega, t0, top_fraction, radius, epsilon[form], form)
        for form in ("paper", "repository")
    )
    steps = {name: _to_stored(value) for name, value in paper.estimate(hazy_BCHW).items()}
    ours = {
        "dark": steps["dark"],
        "A": steps["A"],
        "t_raw": steps["t_raw"],
        "t": steps["t"],
        "out": steps["J"],
    }
    later = repository.estimate(hazy_BCHW, A_BC=fixture.tensor("hz_A")[None])
    ours |= {f"hz_{name}": _to_stored(later[name]) for name in ("t_raw", "t", "J")}
    return compare_arrays(fixture, ours, given=("hz_A",))


def _to_stored(value: Tensor) -> Tensor:
    """(1, 1, H, W) -> (H, W), (1, 3, H, W) -> (H, W, 3), (1, 3) -> (3,): as the fixture keeps them."""
    value = value[0]
    if value.ndim == 3:
        value = value.permute(1, 2, 0)
    return value.squeeze(-1) if value.shape[-1] == 1 else value

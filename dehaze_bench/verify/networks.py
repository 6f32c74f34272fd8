"""Fixtures of whole restorers: filled weights through the key map, a rebuilt input, outputs of named parts.

Shapes: B batch, C channel, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.aodnet import AODNet
from dehaze_bench.models.restorers.dcp import DarkChannelPrior
from dehaze_bench.verify.compare import Row, compare_arrays, count_row
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights import load_strictly
from dehaze_bench.weights.keymaps import KEY_MAPS


def check_aodnet(fixture: Fixture) -> list[Row]:
    """AOD-Net with filled weights: the restored image and the output of each convolution."""
    build = BuildArguments(fixture)
    build.expect("kernels", [1, 3, 5, 7, 3])
    build.expect("channels", 3)
    build.expect("concat", "1-2, 2-3, 1-4")
    build.expect("output", "relu(K*x - K + 1)")
    build.finish()
    return _check_network(fixture, "aodnet", AODNet(), {f"e_conv{i}": f"conv{i}" for i in range(1, 6)})


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


def _check_network(fixture: Fixture, model_name: str, model: nn.Module, parts: dict[str, str]) -> list[Row]:
    """Compare `out` and the outputs of submodules; `parts` maps published submodule names to ours."""
    if fixture.field("normalise") is not None:
        stated = fixture.field("normalise")
        raise UsageError(f"{fixture.path}: {model_name} takes images in [0, 1], not normalise={stated!r}.")
    load_strictly(model, KEY_MAPS[model_name](fixture.weights()), source=str(fixture.path))
    ours: dict[str, Tensor] = {}
    hooks = [
        model.get_submodule(our_name).register_forward_hook(_keep(ours, published))
        for published, our_name in parts.items()
    ]
    with torch.inference_mode():
        out_BCHW = model.eval()(fixture.image())
    for hook in hooks:
        hook.remove()
    # Parts in order of the forward pass, so that the first failing row shows where a difference begins.
    rows = compare_arrays(fixture, {**ours, "out": out_BCHW})
    return [*rows, count_row(fixture, sum(parameter.numel() for parameter in model.parameters()))]


class _keep:
    """A forward hook that stores the output of its module under a name."""

    def __init__(self, store: dict[str, Tensor], name: str) -> None:
        self.store, self.name = store, name

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.store[self.name] = output.clone()


def _to_stored(value: Tensor) -> Tensor:
    """(1, 1, H, W) -> (H, W), (1, 3, H, W) -> (H, W, 3), (1, 3) -> (3,): as the fixture keeps them."""
    value = value[0]
    if value.ndim == 3:
        value = value.permute(1, 2, 0)
    return value.squeeze(-1) if value.shape[-1] == 1 else value

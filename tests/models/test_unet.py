"""The controlled U-Net: starts as the identity, keeps shapes, grows with its width, meets a budget."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from dehaze_bench.counting import count_macs, count_params
from dehaze_bench.errors import UsageError
from dehaze_bench.models.unet import UNet
from dehaze_bench.nn.mixers import GatedConv, Mamba
from dehaze_bench.registry import list_choices
from dehaze_bench.scans import Scan, planar

RASTER = Scan("raster", planar.raster, "mean")


def small(width: float = 8, patch: int = 2, depths: tuple[int, ...] = (1, 1, 1, 1, 1)) -> UNet:
    torch.manual_seed(0)
    return UNet(GatedConv, RASTER, width=width, patch=patch, depths=depths)


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("cells", [(2, 2), (2, 5), (3, 2)])
def test_starts_as_the_identity_at_any_shape(patch: int, cells: tuple[int, int]) -> None:
    network = small(patch=patch)
    assert network.multiple == 4 * patch
    image = torch.rand(2, 3, cells[0] * network.multiple, cells[1] * network.multiple)
    assert torch.equal(network(image), image)


def test_every_parameter_learns_after_the_first_step() -> None:
    network = small()
    torch.nn.init.normal_(network.unembed.weight, std=0.1)
    out = network(torch.rand(2, 3, 16, 24))
    assert out.shape == (2, 3, 16, 24)
    out.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_output_is_not_clamped() -> None:
    network = small()
    torch.nn.init.constant_(network.unembed.bias, 3.0)
    assert network(torch.full((1, 3, 16, 16), 0.1)).max() < 0


def test_parameters_are_counted_by_hand_without_blocks() -> None:
    """embed + downs + ups + fusions + unembed for widths 8, 16, 32, 16, 8."""
    network = small(depths=(0, 0, 0, 0, 0))
    head = network.unembed.out_channels
    embed, unembed = 12 * 8 * 9 + 8, 8 * head * 9 + head
    downs = (8 * 16 * 4 + 16) + (16 * 32 * 4 + 32)
    ups = (32 * 64 + 64) + (16 * 32 + 32)
    fusions = (16 * 16 + 16 + 16 * 4 + 4 * 32) + (8 * 8 + 8 + 8 * 4 + 4 * 16)
    assert count_params(network) == embed + unembed + downs + ups + fusions


def test_parameters_do_not_depend_on_the_scan() -> None:
    cross = UNet(partial(Mamba, d_state=4), Scan("cross", planar.cross), width=8)
    raster = UNet(partial(Mamba, d_state=4), RASTER, width=8)
    assert count_params(cross) == count_params(raster)


def test_parameters_grow_with_the_width() -> None:
    with torch.device("meta"):
        counts = [count_params(UNet(GatedConv, RASTER, width=2 + k / 4)) for k in range(60)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depths": (1, 1)}, "five"),
        ({"depths": (1, 1, -1, 1, 1)}, "five counts"),
        ({"width": 1}, "width=1"),
        ({"patch": 0}, "patch=0"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        UNet(GatedConv, RASTER, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("mixer", list_choices("model/mixer"))
def test_width_meets_a_budget_of_parameters(mixer: str) -> None:
    composed = compose_run([f"model/mixer={mixer}", "model.match.params=150k"])
    assert count_params(build.meta_model(composed.cfg)) == pytest.approx(150e3, rel=0.02)


def test_width_meets_a_budget_of_multiply_adds() -> None:
    composed = compose_run(["model/mixer=conv", "scan=raster", "model.patch=4", "model.match.macs=0.5G"])
    assert count_macs(build.meta_model(composed.cfg)) == pytest.approx(0.5e9, rel=0.02)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.match.params=abc"], "model.match.params=abc is no amount"),
        (["model.match.params=-3"], "no amount"),
        (["model.match.params=1"], "cannot be met"),
        (["model.match.params=100T"], "out of reach"),
        (["model.match.params=9k", "model.match.macs=1G"], "not both"),
        (["+model.match.param=9k"], "'params'"),
        (["model=aodnet", "+model.match.params=9k"], "needs a network with a width"),
        (["model=dcp", "scan=cross"], "takes no scan"),
        (["train.crop=100"], "use 96 or 104"),
        (["model.depths=[1,2]"], "five stages"),
        (["model/mixer=conv", "model.mixer.kernel=4"], "odd kernel"),
        (["scan=cross", "scan.merge=max"], "merge rule 'max'"),
    ],
)
def test_check_names_what_does_not_fit(overrides: list[str], words: str) -> None:
    small = [] if any(text.startswith("model=") for text in overrides) else ["model.width=4"]
    with pytest.raises(UsageError, match=words):
        build.check(compose_run([*small, *overrides]).cfg)

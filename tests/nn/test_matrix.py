"""Every mixer takes every scan over the plane: forward and backward, odd grids, finite."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from dehaze_bench.errors import UsageError
from dehaze_bench.nn.scanned import ScannedLayer
from dehaze_bench.registry import list_choices
from dehaze_bench.scans import Scan

CONF = Path(__file__).resolve().parents[2] / "conf"
DIM = 8


@functools.cache
def load(group: str, name: str) -> Any:
    node = OmegaConf.load(CONF / group / f"{name}.yaml")
    return instantiate(node, _convert_="all") if "_target_" in node else None


def scans(axes: int) -> list[str]:
    found = []
    for name in list_choices("scan"):
        scan = load("scan", name)
        if isinstance(scan, Scan) and axes in scan.axes:
            found.append(name)
    return found


def test_the_lists_are_not_empty() -> None:
    assert len(scans(2)) >= 20
    assert len(list_choices("model/mixer")) >= 4


@pytest.mark.parametrize("scan", scans(2))
@pytest.mark.parametrize("mixer", list_choices("model/mixer"))
def test_every_mixer_takes_every_scan(mixer: str, scan: str) -> None:
    torch.manual_seed(0)
    layer = ScannedLayer(DIM, load("model/mixer", mixer), load("scan", scan).for_block(1))
    for grid in ((3, 5), (1, 4)):
        x = torch.randn(2, *grid, DIM, requires_grad=True)
        y = layer(x)
        assert y.shape == x.shape
        assert torch.isfinite(y).all()
        y.square().sum().backward()
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()
        assert x.grad.abs().sum() > 0
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("scan", sorted(set(scans(3)) - set(scans(2))))
def test_volume_scans_take_volumes(scan: str) -> None:
    layer = ScannedLayer(DIM, load("model/mixer", "conv"), load("scan", scan).for_block(0))
    x = torch.randn(1, 2, 3, 4, DIM)
    assert layer(x).shape == x.shape


@pytest.mark.parametrize("scan", sorted(set(scans(3)) - set(scans(2))))
def test_a_volume_scan_is_refused_for_pictures_before_anything_is_built(scan: str) -> None:
    with pytest.raises(UsageError, match=r"walks over volumes.*raster"):
        build.check(compose_run([f"scan={scan}", "model.width=4"]).cfg)


def test_the_order_is_what_the_layer_sees() -> None:
    """A mixer that copies its predecessor moves every token one step along the route."""
    layer = ScannedLayer(DIM, load("model/mixer", "conv"), load("scan", "raster"))
    with torch.no_grad():
        before = layer(torch.zeros(1, 2, 3, DIM))
        image = torch.zeros(1, 2, 3, DIM)
        image[0, 0, 2] = 1
        moved = (layer(image) - before).abs().sum(-1)[0] > 0
    assert moved[1, 0], "the next token in raster order starts the next row"


def test_routes_found_while_restoring_serve_training_later() -> None:
    layer = ScannedLayer(DIM, load("model/mixer", "mamba"), load("scan", "columns"))
    x = torch.randn(1, 5, 11, DIM)
    with torch.inference_mode():
        layer(x)
    layer(x).sum().backward()
    assert layer.mixer.in_proj.weight.grad is not None

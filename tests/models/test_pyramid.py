"""Restorers of backbones: start as the identity, learn, any size, any scan; what cannot be is named."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml

from dehaze_bench import build, counting
from dehaze_bench.compose import compose_run
from dehaze_bench.errors import UsageError
from dehaze_bench.models.backbones.deit import DeiT
from dehaze_bench.models.backbones.resnet import ResNet
from dehaze_bench.models.pyramid import Pyramid
from dehaze_bench.scans import Scan, planar

EXPERIMENT = yaml.safe_load((Path(__file__).resolve().parents[2] / "experiments" / "backbones_demo.yaml").read_text())
ROWS = {row["label"]: row["overrides"] for row in EXPERIMENT["rows"] if row["overrides"] != ["model=identity"]}
# Norms of the classifier that stand behind the pooling, where a feature map never comes.
CLASSIFIERS = {f"backbone.{norm}.{part}" for norm in ("ln2", "norm_f", "norm") for part in ("weight", "bias")}


def test_every_family_has_a_row() -> None:
    families = {name.split("=")[1] for row in ROWS.values() for name in row if name.startswith("model/backbone=")}
    assert len(families) >= 17


@pytest.mark.parametrize("label", ROWS)
def test_every_backbone_learns_two_steps(label: str) -> None:
    torch.manual_seed(0)
    network = build.model(compose_run(["model=pyramid", *ROWS[label]]).cfg).train()
    side = network.multiple * -(-64 // network.multiple)
    hazy = torch.rand(1, 3, side, side)
    assert torch.equal(network(hazy), hazy)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        loss = F.l1_loss(network(hazy), 0.5 * hazy)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    missing = {name for name, p in network.named_parameters() if p.grad is None}
    assert missing <= CLASSIFIERS, missing


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_pictures_of_other_shapes(size: tuple[int, int]) -> None:
    network = Pyramid(partial(DeiT, dim=12, depth=1, heads=3, patch=16, image_size=32), dim=8, detail=4)
    assert (network.strides, network.multiple) == ((4, 8, 16), 16)
    image = torch.rand(2, 3, *size)
    assert torch.equal(network(image), image)


def test_a_scan_reaches_the_backbone() -> None:
    cfg = compose_run(["model=pyramid", "model/backbone=vrwkv_t", "model.backbone.depth=1", "scan=cross"]).cfg
    native = compose_run(["model=pyramid", "model/backbone=vrwkv_t", "model.backbone.depth=1"]).cfg
    four, one = build.meta_model(cfg), build.meta_model(native)
    assert counting.count_params(four) > counting.count_params(one)


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(UsageError, match=r"'ResNet' takes no scan.*scan=cross"):
        Pyramid(ResNet, Scan("cross", planar.cross))
    with pytest.raises(UsageError, match="dim >= 8"):
        Pyramid(partial(ResNet, (1, 1, 1, 1)), dim=4)
    with pytest.raises(UsageError, match="takes no scan"):
        build.check(compose_run(["model=pyramid", "model/backbone=swin_t", "scan=hilbert"]).cfg)

"""Every backbone at its smallest published size learns on dead leaves, as a restorer; volumes are refused by name."""

from __future__ import annotations

import statistics

import pytest
import torch

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from dehaze_bench.data import batches
from dehaze_bench.errors import UsageError
from dehaze_bench.registry import list_choices
from tests.models.backbones.building import backbone

SMALLEST = (
    *("deit_ti", "deit_ti_distilled", "efficientvmamba_t", "localvim_t", "localvim_t_midcls", "localvmamba_t"),
    *("mamba_nd_s", "msvmamba_nano", "msvmamba_v3_t", "plainmamba_l1", "resnet50", "rsmamba_s", "swin_t"),
    *(
        "videomamba_ti",
        "vim_t",
        "vim_t_plus",
        "vmamba_t_m2",
        "vmamba_t_s1l8",
        "vmamba_t_s2l5",
        "vmamba_t_v0",
        "vrwkv_t",
    ),
)
# The searches are experiments of their own, vrwkv_l has another head than its family.
LARGER = ("localvim_search", "localvmamba_search")
VOLUMES = [name for name in list_choices("model/backbone") if name.endswith("_video")] + ["segmamba", "nnmamba"]
STEPS, CROP, BATCH = 20, 32, 2


def family(name: str) -> str:
    return type(backbone(name)).__name__


def test_every_family_is_tried() -> None:
    known = [name for name in list_choices("model/backbone") if name not in (*VOLUMES, *LARGER)]
    assert set(SMALLEST) <= set(known)
    assert {family(name) for name in known} == {family(name) for name in SMALLEST}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_twenty_steps_on_dead_leaves(name: str) -> None:
    torch.manual_seed(0)
    line = [f"train.crop={CROP}", f"train.batch={BATCH}", "dataset.canvas=[64,64]", "optimizer.lr=1e-3"]
    cfg = compose_run(["model=pyramid", f"model/backbone={name}", *line]).cfg
    build.check(cfg)
    network, loss = build.model(cfg).train(), build.loss(cfg)
    optimizer = build.optimizer(cfg, network)
    steps = batches(build.dataset(cfg), seed=0, start=0, stop=STEPS, batch=BATCH, crop=CROP, augment=[], num_workers=0)
    found, whole = [], []
    for batch in steps:
        hazy, clear = batch.hazy_BCHW, batch.clear_BCHW
        value = loss(network(hazy), clear)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        found.append(value.item())
        whole.append(loss(hazy, clear).item())
    assert all(torch.isfinite(torch.tensor(found)))
    # Batches differ: what counts is the loss as a share of that of the hazy input, with which a network begins.
    shares = [value / before for value, before in zip(found, whole, strict=True)]
    assert shares[0] == pytest.approx(1, abs=1e-5)
    assert statistics.mean(shares[-5:]) < 1


@pytest.mark.parametrize("name", VOLUMES)
def test_volumes_are_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=r"takes (volumes|videos)"):
        build.check(compose_run(["model=pyramid", f"model/backbone={name}"]).cfg)

"""Every backbone at its smallest published size learns on dead leaves, as a restorer; volumes are refused by name."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from dehaze_bench.data import batches
from dehaze_bench.errors import UsageError
from dehaze_bench.registry import list_choices
from tests.models.backbones.building import CONF

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
STEPS, CROP, BATCH = 20, 32, 4


def family(name: str) -> str:
    return str(OmegaConf.load(CONF / f"{name}.yaml")["_target_"])


def test_every_family_is_tried() -> None:
    known = [name for name in list_choices("model/backbone") if name not in (*VOLUMES, *LARGER)]
    assert set(SMALLEST) <= set(known)
    assert {family(name) for name in known} == {family(name) for name in SMALLEST}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_twenty_steps_on_dead_leaves(name: str) -> None:
    torch.manual_seed(0)
    line = [f"train.crop={CROP}", f"train.batch={BATCH}", "dataset.canvas=[64,64]", "dataset.scenes=4"]
    cfg = compose_run(["model=pyramid", f"model/backbone={name}", "optimizer.lr=5e-4", *line]).cfg
    build.check(cfg)
    network, loss = build.model(cfg).train(), build.loss(cfg)
    optimizer = build.optimizer(cfg, network)
    steps = batches(build.dataset(cfg), seed=0, start=0, stop=STEPS, batch=BATCH, crop=CROP, augment=[], num_workers=0)
    kept = None
    for batch in steps:
        hazy, clear = batch.hazy_BCHW, batch.clear_BCHW
        kept = kept or (hazy, clear, loss(hazy, clear))
        value = loss(network(hazy), clear)
        assert torch.isfinite(value)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    assert kept is not None
    hazy, clear, before = kept  # the untrained network returns the hazy picture
    assert loss(network(hazy), clear) < before


@pytest.mark.parametrize("name", VOLUMES)
def test_volumes_are_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=r"takes (volumes|videos)"):
        build.check(compose_run(["model=pyramid", f"model/backbone={name}"]).cfg)

"""What every published restorer must do: learn one pair, train under its recipe, restore a picture of SOTS's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from dehaze_bench.config import locate
from dehaze_bench.data.deadleaves import DeadLeaves
from dehaze_bench.engine.losses import L1, over_scales
from dehaze_bench.infer import restore
from dehaze_bench.models import restorers
from dehaze_bench.nn.normalisation import Normalisation
from dehaze_bench.registry import list_choices

OTHERS = ("__init__", "dcp")  # nothing to learn
RATES = {"aodnet": 1e-2, "gcanet": 1e-2}
# Learning takes hundreds of steps: deep networks with fewer of the same blocks, windows that fit 64 pixels.
ONE, FLAT = "model.depths=[1,1,1,1]", "model.refinement=1"
FEWER = {
    "c2pnet": ["model.blocks=2"],
    "eamamba": [ONE, FLAT],
    "ffanet": ["model.blocks=2"],
    "fsnet": ["model.num_res=2"],
    "mambair_light": ["model.depths=[1,1]", "model.drop_path=0"],
    "mambairv2_light": ["model.depths=[2,2]"],
    "mb_taylorformer_b": [ONE],
    "mma": ["model.num_blocks=2", "model.dim=48"],
    "msbdn_rdff": ["model.res_blocks=2"],
    "nafnet_w32": ["model.encoder=[1,1,1,2]"],
    "promptir": [ONE, FLAT],
    "restore_rwkv": [ONE, FLAT],
    "restormer": [ONE, FLAT],
    "rsdformer": ["model.depths=[1,1,1]"],
    "sfnet": ["model.num_res=2"],
    "uformer_b": ["model.depths=[1,1,1,1,1,1,1,1,1]", "model.drop_path=0", "model.window=4"],
    "vmambair_mamber32": [ONE, FLAT],
}
LARGE = {"mma": ["model.num_blocks=2"]}  # its one size restores a picture in an hour on a CPU
STEPS = 400


# Each family at its smallest published size.
SMALLEST = (
    "aodnet", "c2pnet", "casdyfnet", "convir_s", "deanet", "dehazeformer_t", "eamamba", "edformer", "ffanet",
    "fourier_rwkv", "fsnet", "gcanet", "griddehazenet", "gunet_t", "irnext", "lightdehazenet", "mair_dehaze",
    "mambair_light", "mambairv2_light", "mb_taylorformer_b", "mixdehazenet_t", "mma", "msbdn_rdff", "nafnet_w32",
    "oknet", "promptir", "restore_rwkv", "restormer", "rsdehamba", "rsdformer", "sfnet", "uformer_b",
    "uvmnet_slim", "vmambair_mamber32",
)  # fmt: skip
RECIPES = tuple(
    next(recipe for recipe in [*list_choices("recipe"), ""] if recipe.startswith(f"{model}_") or not recipe)
    for model in SMALLEST
)


def draw_pair(size: int = 64) -> tuple[Tensor, Tensor]:
    """Return one hazy and clear pair and its mirror image: some networks normalise over the batch."""
    sample = DeadLeaves(seed=0).sample(0, size, np.random.default_rng(0))
    pair = (torch.as_tensor(picture)[None] for picture in (sample.hazy, sample.clear))
    hazy, clear = (torch.cat([x_BCHW, x_BCHW.flip(-1)]) for x_BCHW in pair)
    return hazy, clear


def do_step(network: nn.Module, optimizer: torch.optim.Optimizer, loss, hazy: Tensor, clear: Tensor) -> float:
    optimizer.zero_grad(set_to_none=True)
    value = over_scales(loss, network(hazy), clear, hazy)
    value.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return value.item()


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_one_pair_is_learnt_by_heart(name: str) -> None:
    torch.manual_seed(0)
    network = build.model(compose_run([f"model={name}", *FEWER.get(name, [])]).cfg).train()
    if name == "lightdehazenet":  # its published start, N(0, 0.02), takes thousands of steps to leave
        network.apply(lambda layer: layer.reset_parameters() if isinstance(layer, nn.Conv2d) else None)
    hazy, clear = draw_pair()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATES.get(name, 1e-3))
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATES.get(name, 1e-3), STEPS, pct_start=0.1)
    first = best = do_step(network, optimizer, L1(), hazy, clear)
    for _ in range(STEPS - 1):
        rates.step()
        best = min(best, do_step(network, optimizer, L1(), hazy, clear))
        if best < first / 10:
            break
    assert best < first / 10


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RECIPES if name])
def test_a_recipe_trains_its_model(name: str) -> None:
    torch.manual_seed(0)
    cfg = compose_run([f"recipe={name}"]).cfg
    network = build.model(cfg).train()
    optimizer, loss = build.optimizer(cfg, network), build.loss(cfg)
    before = {key: tensor.clone() for key, tensor in network.named_parameters()}
    hazy, clear = draw_pair()
    values = [do_step(network, optimizer, loss, hazy, clear) for _ in range(5)]
    assert torch.tensor(values).isfinite().all()
    changed = [key for key, tensor in network.named_parameters() if not torch.equal(before[key], tensor)]
    assert len(changed) > 0.9 * len(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_a_picture_of_sots_is_restored(name: str) -> None:
    torch.manual_seed(0)
    network = build.model(compose_run([f"model={name}", *LARGE.get(name, [])]).cfg).eval()
    hazy = torch.rand(3, 460, 620)
    restored = restore(network, hazy, device="cpu")
    assert restored.shape == hazy.shape
    assert restored.isfinite().all()


def test_no_family_is_forgotten() -> None:
    families = {path.stem for path in Path(restorers.__file__).parent.glob("*.py")} - set(OTHERS)
    assert {family for family in families if not any(name.startswith(family) for name in SMALLEST)} == set()
    assert set(SMALLEST) <= set(list_choices("model"))


@pytest.mark.parametrize("name", SMALLEST)
def test_what_a_network_expects_is_declared(name: str) -> None:
    target = locate(str(compose_run([f"model={name}"]).cfg.model["_target_"]), "model")
    declared = getattr(target, "multiple", None) or build.meta_model(compose_run([f"model={name}"]).cfg).multiple
    assert declared in (1, 2, 4, 8, 16, 32, 64, 128)
    assert isinstance(target.output_range, str)
    assert isinstance(getattr(target, "normalisation", Normalisation()), Normalisation)

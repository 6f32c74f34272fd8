"""Haze that the device adds to whole batches: the pictures that the workers would have made, up to rounding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dehaze_bench.compose import compose_run, identify_run
from dehaze_bench.data import Batch, batches
from dehaze_bench.data.haze import Veil, add_haze, transmit
from dehaze_bench.data.holdout import hold_out
from dehaze_bench.data.pairs import Sample
from dehaze_bench.data.synthesis_training import HazeOnDepth
from dehaze_bench.data.veils import cover, gather
from dehaze_bench.errors import UsageError
from tests.data.test_synthesis import Tree, make_tree, training

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return make_tree(tmp_path)


def load(dataset: HazeOnDepth, num_workers: int = 0, device: str = "cpu", **more: object) -> list[Batch]:
    common = {"seed": 4, "start": 0, "stop": 4, "batch": 3, "crop": 24, "augment": ("flip", "rot90")}
    return list(batches(dataset, **(common | more), num_workers=num_workers, device=device))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("recipe", ["its", "ots", "ridcp", "uneven"])
def test_the_device_makes_the_pictures_that_workers_make(recipe: str, device: str, tree: Tree) -> None:
    metres = {"depth_far": 40.0} if recipe == "ots" else {}
    here = load(training(tree, recipe=recipe, **metres))
    there = load(training(tree, recipe=recipe, haze_on="device", **metres), device=device)
    off = total = 0
    for one, two in zip(here, there, strict=True):
        assert one.names == two.names
        assert two.hazy_BCHW.device.type == two.clear_BCHW.device.type == device
        assert torch.equal(one.clear_BCHW, two.clear_BCHW.cpu())
        difference = (one.hazy_BCHW - two.hazy_BCHW.cpu()).abs()
        # Both round to 8 bits: what lies within 1e-5 of the border of two levels may fall on the other side.
        assert difference.max() < 1 / 255 + 1e-6
        off += int((difference > 1e-5).sum())
        total += difference.numel()
        assert not torch.equal(one.hazy_BCHW, one.clear_BCHW)
    assert off < 0.005 * total


@pytest.mark.parametrize("device", DEVICES)
def test_before_rounding_the_arithmetic_is_that_of_numpy_to_1e_5(device: str) -> None:
    rng = np.random.default_rng(0)
    clear = rng.integers(0, 256, (3, 40, 40)).astype(np.float32) / np.float32(255)
    distance = rng.uniform(0, 3, (40, 40)).astype(np.float32)
    for gamma, beta, airlight in ((1.0, 0.6, (0.7, 0.7, 0.7)), (2.3, 1.8, (0.31, 0.29, 0.33))):
        veil = Veil(distance, beta, airlight, gamma)
        exact = add_haze(clear.astype(np.float32) ** np.float32(gamma), transmit(distance, beta), airlight)
        hazy = torch.from_numpy(clear)[None].to(device).clone()
        veils = gather([Sample("a", clear, clear, veil)])
        assert veils is not None
        cover(hazy, veils)
        levels = hazy[0].cpu().numpy().astype(np.float64) * 255
        assert np.abs(levels - np.rint(levels)).max() < 1e-4
        # A level was chosen as from a value that differs by less than 1e-5.
        assert np.abs(levels - exact.astype(np.float64) * 255).max() < 0.5 + 255e-5


def test_only_noise_and_jpeg_are_left_to_the_workers(tree: Tree) -> None:
    dataset = training(tree, recipe="ridcp", haze_on="device")
    plain = training(tree, recipe="ridcp")
    assert dataset.draw is not None
    veiled = 0
    for key in range(60):
        sample = dataset.draw(key % 3, 24, np.random.default_rng(key))
        made = plain.sample(key % 3, 24, np.random.default_rng(key))
        assert sample.name == made.name
        assert sample.hazy.dtype == sample.clear.dtype == np.uint8
        if sample.veil is None:
            assert np.array_equal(sample.hazy / np.float32(255), made.hazy)
        else:
            assert np.array_equal(sample.hazy, sample.clear)
        veiled += sample.veil is not None
    assert 8 < veiled < 24  # a quarter has neither noise nor JPEG


def test_batches_without_a_veil_are_left_alone_and_rows_are_told_apart() -> None:
    clear = np.full((3, 8, 8), 0.5, np.float32)
    veil = Veil(np.full((8, 8), 50, np.float32), 1.0, (0.9, 0.8, 0.7))
    samples = [Sample("a", clear, clear), Sample("b", clear, clear, veil)]
    assert gather(samples[:1]) is None
    veils = gather(samples)
    assert veils is not None
    hazy = torch.from_numpy(np.stack([clear, clear]))
    cover(hazy, veils)
    assert torch.equal(hazy[0], torch.full((3, 8, 8), 0.5))
    assert hazy[1, :, 0, 0] == pytest.approx([round(a * 255) / 255 for a in veil.airlight], abs=1e-6)
    other = replace(veils, gamma_N=torch.tensor([2.0]), beta_N=torch.tensor([0.0]))
    hazy = torch.from_numpy(np.stack([clear, clear]))
    cover(hazy, other)
    assert hazy[1].numpy() == pytest.approx(np.full((3, 8, 8), 64 / 255), abs=1e-6)


def test_workers_processes_and_held_out_pairs_see_the_same(tree: Tree) -> None:
    dataset = training(tree, recipe="uneven", haze_on="device")
    here, there = load(dataset), load(dataset, num_workers=2)
    for one, two in zip(here, there, strict=True):
        assert torch.equal(one.hazy_BCHW, two.hazy_BCHW)
    kept, pairs = hold_out(dataset, 1, 24, 0)
    _, expected = hold_out(training(tree, recipe="uneven"), 1, 24, 0)
    assert torch.equal(pairs[0].hazy, expected[0].hazy)
    parts = [load(kept, rank=rank, world=2, batch=4) for rank in range(2)]
    for whole, *shares in zip(load(kept, batch=4), *parts, strict=True):
        assert torch.equal(whole.hazy_BCHW, torch.cat([share.hazy_BCHW for share in shares]))


def test_the_choice_counts_for_the_identity_but_its_default_does_not(tree: Tree) -> None:
    words = ["dataset=synth", f"paths.data={tree[0].parent}"]
    ids = {value: identify_run(compose_run([*words, f"dataset.haze_on={value}"])).id for value in ("workers", "device")}
    assert ids["workers"] == identify_run(compose_run([*words, "~dataset.haze_on"])).id != ids["device"]
    with pytest.raises(UsageError, match=r"dataset\.haze_on=gpu is not known"):
        training(tree, haze_on="gpu")

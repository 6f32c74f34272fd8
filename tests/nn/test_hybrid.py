"""Hybrid and alternating mixers: what they are made of, and that the U-Net gives every block its own."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from dehaze_bench.errors import UsageError
from dehaze_bench.models.unet import UNet
from dehaze_bench.nn.mixers import Alternating, GatedConv, Hybrid, Mamba, WindowAttention
from dehaze_bench.scans import Scan, planar

BOTH = (partial(Mamba, d_state=4), partial(WindowAttention, window=8, head_dim=4))


def test_parallel_is_the_sum() -> None:
    torch.manual_seed(0)
    mixer = Hybrid(8, BOTH, "parallel")
    x_BLC = torch.randn(2, 11, 8)
    torch.testing.assert_close(mixer(x_BLC), mixer.mixers[0](x_BLC) + mixer.mixers[1](x_BLC))


def test_series_hands_the_first_result_on() -> None:
    torch.manual_seed(0)
    mixer = Hybrid(8, BOTH, "series")
    x_BLC = torch.randn(2, 11, 8)
    first = mixer.mixers[0](x_BLC)
    assert mixer.norms is not None
    expected = first + mixer.mixers[1](mixer.norms[0](x_BLC + first))
    torch.testing.assert_close(mixer(x_BLC), expected)


def test_alternating_blocks() -> None:
    network = UNet(Alternating(BOTH), Scan("cross", planar.cross), width=8, depths=(1, 1, 2, 1, 1))
    kinds = [type(block.mixer.mixer) for stage in network.stages for block in stage]
    assert kinds == [Mamba, WindowAttention] * 3


@pytest.mark.parametrize("name", ["mamba_attention", "mamba_attention_parallel", "mamba_attention_alternating"])
def test_the_configs_build(name: str) -> None:
    cfg = compose_run([f"model/mixer={name}", "scan=cross", "model.width=8"]).cfg
    build.check(cfg)


@pytest.mark.parametrize("overrides", [["model.ffn=conv"], ["model.extra_norm=true"]])
def test_modified_blocks_still_start_as_the_identity(overrides: list[str]) -> None:
    network = build.model(compose_run(["model/mixer=conv", "scan=raster", "model.width=8", *overrides]).cfg)
    image = torch.rand(1, 3, 16, 24)
    assert torch.equal(network(image), image)


def test_faults_are_named() -> None:
    with pytest.raises(UsageError, match="at least two"):
        Hybrid(8, BOTH[:1])
    with pytest.raises(UsageError, match="'serial'"):
        Hybrid(8, BOTH, "serial")
    with pytest.raises(UsageError, match="at least two"):
        Alternating(BOTH[:1])
    with pytest.raises(UsageError, match="'cnov'"):
        UNet(GatedConv, Scan("raster", planar.raster), width=8, ffn="cnov")

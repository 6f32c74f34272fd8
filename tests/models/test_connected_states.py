"""States handed from block to block of the controlled U-Net."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from dehaze_bench.counting import count_params
from dehaze_bench.errors import UsageError
from dehaze_bench.models.unet import UNet
from dehaze_bench.nn.mixers import Alternating, GatedConv, Hybrid, Mamba, WindowAttention
from dehaze_bench.scans import Scan, planar

MAMBA = partial(Mamba, d_state=2)
CROSS = Scan("cross", planar.cross)
BOTH = (MAMBA, partial(WindowAttention, window=4, head_dim=4))


def pair(depths: tuple[int, ...], scan: Scan = CROSS) -> tuple[UNet, UNet]:
    """Return a connected network and one with the same weights that is not."""
    torch.manual_seed(0)
    connected = UNet(MAMBA, scan, width=4, depths=depths, connect_states=True)
    with torch.no_grad():
        for parameter in connected.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    plain = UNet(MAMBA, scan, width=4, depths=depths)
    plain.load_state_dict(connected.state_dict())
    return connected, plain


@pytest.mark.parametrize("stage", range(5))
def test_only_a_stage_with_two_blocks_changes(stage: int) -> None:
    depths = tuple(2 if i == stage else 1 for i in range(5))
    connected, plain = pair(depths)
    assert count_params(connected) == count_params(plain)
    seen: dict[str, list[torch.Tensor]] = {"connected": [], "plain": []}
    for name, network in (("connected", connected), ("plain", plain)):
        for blocks in network.stages:
            # A connected block is not called, so its last layer is watched.
            blocks[-1].ffn.register_forward_hook(lambda m, i, out, name=name: seen[name].append(out))  # type: ignore[misc]
    image = torch.rand(1, 3, 16, 24)
    connected(image)
    plain(image)
    same = [torch.equal(a, b) for a, b in zip(seen["connected"], seen["plain"], strict=True)]
    assert same == [i < stage for i in range(5)]


def test_a_block_starts_where_the_one_before_ended() -> None:
    connected, _ = pair((3, 0, 0, 0, 0))
    blocks: Any = connected.stages[0]
    x_BHWC = torch.randn(2, 3, 4, 4)
    expected, states = x_BHWC, None
    for block in blocks:
        mixed, states = block.mixer.forward_with_states(block.norm1(expected), states)
        expected = expected + mixed
        expected = expected + block.ffn(block.norm2(expected))
    found = connected._run_stage(blocks, x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(found, expected)


def test_no_state_crosses_from_picture_to_picture() -> None:
    connected, _ = pair((2, 2, 2, 2, 2))
    image = torch.rand(2, 3, 16, 16, requires_grad=True)
    out = connected(image)
    (gradient,) = torch.autograd.grad(out[0].square().sum(), image)
    assert gradient[0].abs().sum() > 0 and gradient[1].abs().sum() == 0


def test_every_parameter_learns() -> None:
    connected, _ = pair((2, 2, 2, 2, 2), Scan("bidirectional", planar.bidirectional, "mean"))
    connected(torch.rand(1, 3, 16, 24)).square().mean().backward()
    for name, parameter in connected.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("mixer", "scan", "depths", "words"),
    [
        (GatedConv, CROSS, (1, 1, 2, 1, 1), r"GatedConv, which keeps no state.*these do: .*Mamba"),
        (partial(Hybrid, mixers=BOTH), CROSS, (1, 1, 2, 1, 1), "Hybrid, which keeps no state"),
        (Alternating(BOTH), CROSS, (1, 1, 2, 1, 1), "mixers that alternate"),
        (MAMBA, Scan("turns", planar.cross, mode="alternate"), (1, 1, 2, 1, 1), "'turns', whose routes alternate"),
        (MAMBA, CROSS, (1, 1, 1, 1, 1), r"depths=\[1, 1, 1, 1, 1\]: no stage has a second block"),
        (MAMBA, CROSS, (0, 0, 0, 0, 0), "no stage has a second block"),
    ],
)
def test_faults_are_named(mixer: Any, scan: Scan, depths: tuple[int, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        UNet(mixer, scan, width=4, depths=depths, connect_states=True)


def test_the_options_are_config_keys() -> None:
    overrides = ["model.width=4", "model.connect_states=true", "model.mixer.gate=false", "model.mixer.init=random"]
    composed = compose_run([*overrides, "model.mixer.dt_rank=1", "scan=multiscale"])
    build.check(composed.cfg)
    network: nn.Module = build.model(composed.cfg)
    image = torch.rand(1, 3, 16, 24)
    assert torch.equal(network(image), image)
    with pytest.raises(UsageError, match="which keeps no state"):
        build.check(compose_run(["model.width=4", "model/mixer=conv", "model.connect_states=true"]).cfg)

"""The U-Net over clips: frames meet in the mixer along its routes, and nowhere else."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from dehaze_bench import build
from dehaze_bench.compose import compose_run
from dehaze_bench.counting import count_params
from dehaze_bench.engine.clips import as_frames, takes_clips
from dehaze_bench.errors import UsageError
from dehaze_bench.infer.clips import restore_clip
from dehaze_bench.models.identity import Identity
from dehaze_bench.models.unet import UNet
from dehaze_bench.models.unet_video import VideoUNet
from dehaze_bench.registry import list_choices
from dehaze_bench.scans import Scan

CONF = Path(__file__).resolve().parents[2] / "conf"
SIZES: dict[str, Any] = {"width": 4, "depths": (1, 1, 1, 0, 0), "patch": 2}


@functools.cache
def load(group: str, name: str) -> Any:
    node = OmegaConf.load(CONF / group / f"{name}.yaml")
    return instantiate(node, _convert_="all") if "_target_" in node else None


def volume_scans() -> list[str]:
    scans = {name: load("scan", name) for name in list_choices("scan")}
    return [name for name, scan in scans.items() if isinstance(scan, Scan) and 3 in scan.axes]


def make(mixer: str = "conv", scan: str | None = None, **more: Any) -> VideoUNet:
    torch.manual_seed(0)
    network = VideoUNet(load("model/mixer", mixer), scan and load("scan", scan), **(SIZES | more))
    for parameter in network.unet.unembed.parameters():
        nn.init.normal_(parameter, std=0.1)  # else the network is the identity
    return network.eval()


def clip(frames: int = 3) -> Tensor:
    return torch.rand(2, frames, 3, 16, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mixer", list_choices("model/mixer"))
def test_every_mixer_walks_through_frames(mixer: str) -> None:
    check_learns(make(mixer, "spatiotemporal"))


@pytest.mark.parametrize("scan", volume_scans())
def test_every_scan_of_volumes_is_taken(scan: str) -> None:
    check_learns(make("conv", scan))


def check_learns(network: VideoUNet) -> None:
    given = clip()
    restored = network(given)
    assert restored.shape == given.shape
    (restored - 0.5).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def reach(network: VideoUNet) -> Tensor:
    """Return whether frame i of the result depends on frame j of the clip, (T, T)."""
    given = clip()[:1].requires_grad_()
    restored = network(given)
    rows = [torch.autograd.grad(restored[0, t].sum(), given, retain_graph=True)[0] for t in range(3)]
    return torch.stack([row[0].abs().sum((1, 2, 3)) > 0 for row in rows])


def test_frames_see_each_other_along_the_routes_alone() -> None:
    assert reach(make("mamba", "spatiotemporal")).all()
    assert reach(make("mamba", "raster")).tolist() == torch.ones(3, 3).tril().bool().tolist()  # from the past only

    def still(dim: int) -> Any:
        mixer = load("model/mixer", "conv")(dim)
        mixer.mix = lambda s_NLD, order_L=None: s_NLD  # every token keeps to itself
        mixer.indexed = False
        return mixer

    assert torch.equal(reach(VideoUNet(still, load("scan", "raster"), **SIZES).eval()), torch.eye(3).bool())


@pytest.mark.parametrize("ffn", ["mlp", "conv"])
def test_a_clip_of_one_frame_is_a_picture(ffn: str) -> None:
    network = make("mamba", "raster", ffn=ffn)
    torch.manual_seed(0)
    planar = UNet(load("model/mixer", "mamba"), load("scan", "raster"), **SIZES, ffn=ffn).eval()
    planar.load_state_dict(network.unet.state_dict())
    image = clip()[:, 0]
    with torch.no_grad():
        assert torch.allclose(network(image), planar(image), atol=1e-6)
        assert torch.allclose(network(image[:, None])[:, 0], planar(image), atol=1e-6)
        assert not torch.allclose(as_frames(network(clip())), planar(as_frames(clip())), atol=1e-4)


def test_states_can_be_handed_on_through_clips() -> None:
    plain, connected = (make("mamba", "raster", depths=(2, 0, 0, 0, 0), connect_states=on) for on in (False, True))
    assert plain(clip()).shape == connected(clip()).shape
    assert not torch.equal(plain(clip()), connected(clip()))


def test_restoring_a_clip_pads_frames_and_keeps_order() -> None:
    network = make("mamba", "raster")
    given = torch.rand(4, 3, 13, 18, generator=torch.Generator().manual_seed(2))
    restored = restore_clip(network, given, device="cpu")
    assert restored.shape == given.shape and not torch.equal(restored, given)
    assert torch.equal(restore_clip(Identity(), given, device="cpu"), given)
    assert takes_clips(network) and not takes_clips(Identity())


def test_scans_of_the_plane_are_refused_before_anything_is_built() -> None:
    with pytest.raises(UsageError, match=r"'hilbert' walks over rows and columns.*spatiotemporal, hilbert_3d"):
        build.check(compose_run(["model=unet_video", "scan=hilbert", "model.width=4"]).cfg)
    build.check(compose_run(["model=unet_video", "scan=hilbert_3d", "model.width=4"]).cfg)


def test_it_has_the_parameters_of_the_planar_network() -> None:
    plans = (["model=unet_video", "scan=mamba_nd_3d"], ["model=unet", "scan=mamba_nd"])
    counts = [count_params(build.meta_model(compose_run([*plan, "model.width=8"]).cfg)) for plan in plans]
    assert counts[0] == counts[1] > 0

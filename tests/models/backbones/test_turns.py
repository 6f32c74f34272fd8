"""RSMamba, ZigMa and Mamba-ND: parameter counts and names, paths, sizes, other scans, gradients, named faults."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dehaze_bench.errors import UsageError
from dehaze_bench.models.backbones.mamba_nd import MambaND, MambaNDLayer
from dehaze_bench.models.backbones.rsmamba import RSMamba
from dehaze_bench.models.backbones.zigma import ZigMa
from dehaze_bench.scans import Scan, planar, volume
from dehaze_bench.weights import load_strictly
from dehaze_bench.weights.maps.mamba_nd import map_mamba_nd
from dehaze_bench.weights.maps.rsmamba import map_rsmamba
from tests.models.backbones.building import backbone, count, learns

CROSS = Scan("cross", planar.cross, "sum")


def rsmamba(**arguments: Any) -> RSMamba:
    torch.manual_seed(0)
    sizes = {"dim": 8, "depth": 2, "d_state": 3, "patch": 8, "stride": 4, "image_size": 16, "num_classes": 3}
    return RSMamba(**{**sizes, **arguments})


def zigma(**arguments: Any) -> ZigMa:
    torch.manual_seed(0)
    return ZigMa(**{"channels": 3, "dim": 8, "depth": 3, "patch": 2, "image_size": 8, "d_state": 3, **arguments})


def mamba_nd(**arguments: Any) -> MambaND:
    torch.manual_seed(0)
    sizes = {"dim": 8, "depth": 5, "d_state": 3, "patch": 4, "image_size": 16, "merge_after": (1,), "num_classes": 3}
    return MambaND(**{**sizes, **arguments})


NETWORKS: dict[str, Any] = {"rsmamba": rsmamba, "zigma": zigma, "mamba_nd": mamba_nd}


def test_parameters_are_those_of_the_published_code() -> None:
    """Of the fixtures, whose pictures are smaller; the paper of Mamba-ND prints millions, without the merging layer."""
    assert count(backbone("rsmamba_b", image_size=64, num_classes=0)) == 6_238_848
    both = Scan("both", planar.bidirectional, "gate")
    assert count(backbone("rsmamba_s", image_size=64, num_classes=0, scan=both)) == 4_197_504
    for name, dim, millions in (("mamba_nd_s", 384, 24), ("mamba_nd_b", 768, 92)):
        merging = 4 * dim * dim + 2 * 4 * dim
        assert round((count(backbone(name)) - merging) / 1e6) == millions
    for name in ("rsmamba_l", "rsmamba_h"):
        assert backbone(name, num_classes=45).head.out_features == 45  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [(16, 16), (8, 24)])
@pytest.mark.parametrize("name", NETWORKS)
def test_features_have_the_stated_widths_and_strides(name: str, size: tuple[int, int]) -> None:
    network = NETWORKS[name]().eval()
    maps = network.features(torch.rand(2, 3, *size))
    assert [tuple(found.shape) for found in maps] == [
        (2, width, size[0] // stride, size[1] // stride)
        for width, stride in zip(network.widths, network.strides, strict=True)
    ]
    expected = (2, 3, *size) if name == "zigma" else (2, 3)
    assert network(torch.rand(2, 3, *size)).shape == expected


@pytest.mark.parametrize("scan", [None, CROSS, Scan("turns", planar.cross, "sum", "alternate")])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_learns(name: str, scan: Scan | None) -> None:
    inputs = [torch.rand(2, 3, 16, 16)]
    learns(NETWORKS[name](scan=scan), *inputs, *([torch.rand(2)] if name == "zigma" else []))


def test_shuffles_of_rsmamba_differ_by_layer_and_repeat() -> None:
    image = torch.rand(1, 3, 16, 16)
    network = rsmamba().eval()
    first, second = (layer.scan.on((4, 4))[0].index_KL[2] for layer in network.layers)
    assert not torch.equal(first, second)
    torch.testing.assert_close(network(image), rsmamba().eval()(image))
    other = rsmamba(seed=10).eval()
    other.load_state_dict(network.state_dict())
    assert not torch.allclose(other(image), network(image))
    torch.manual_seed(1)
    fresh = rsmamba(fresh=True).eval()
    fresh.load_state_dict(network.state_dict())
    assert not torch.allclose(fresh(image), fresh(image))


def test_rsmamba_weighs_whole_paths() -> None:
    network = rsmamba(scan=Scan("both", planar.bidirectional, "gate"), depth=1).eval()
    layer, x_BLC = network.layers[0], torch.randn(2, 16, 8)
    there, back = layer.mixer(x_BLC), layer.mixer(x_BLC.flip(1)).flip(1)
    weights = torch.cat([there.mean(1), back.mean(1)], dim=1) @ layer.merge.weigh.weight.T
    weights = weights.softmax(1)[:, :, None, None]
    torch.testing.assert_close(layer(x_BLC, (4, 4)), weights[:, 0] * there + weights[:, 1] * back)


def test_published_names_of_rsmamba() -> None:
    network = rsmamba()
    published = {}
    for name, tensor in network.state_dict().items():
        name = name.replace("tokens.patch_embed.proj", "patch_embed.projection").replace("tokens.", "")
        name = name.replace(".mixer.", ".").replace("head.", "head.fc.")
        if ".merge.weigh." in name:
            name = name.replace("layers.", "gate_layers.").replace("merge.weigh", "0")
        published[name if name.startswith("head") else f"backbone.{name}"] = tensor
    assert "backbone.gate_layers.1.0.weight" in published
    load_strictly(rsmamba(), map_rsmamba(published), "here")


def test_zigma_starts_with_its_gates_closed() -> None:
    network = zigma().eval()
    image = torch.rand(2, 3, 8, 8)
    tokens, _ = network.tokens(image)
    normed, total = tokens, tokens
    for layer in network.layers:  # each layer hands on its norm, and the sum grows by it
        normed = layer.norm(total)
        total = total + normed
    torch.testing.assert_close(network.features(image)[0], network.norm_f(total).transpose(1, 2).unflatten(2, (4, 4)))


def test_zigma_puts_patches_back_where_they_were() -> None:
    network = zigma(depth=1)
    out = torch.arange(2 * 3 * 12.0).reshape(1, 6, 12)  # tokens of a grid of 2 x 3 with 2 x 2 pixels of 3 channels
    network.run = lambda image, time=None: (out, (2, 3))  # type: ignore[method-assign, assignment]
    network.final = torch.nn.Identity()  # type: ignore[assignment]
    expected = F.layer_norm(out, (12,), eps=1e-6).reshape(1, 2, 3, 2, 2, 3)
    expected = torch.einsum("nhwpqc->nchpwq", expected).reshape(1, 3, 4, 6)
    torch.testing.assert_close(network(torch.rand(1, 3, 4, 6)), expected)


def test_zigma_hears_the_time() -> None:
    network = zigma()
    learns(network, torch.rand(2, 3, 8, 8), torch.rand(2))
    image = torch.rand(1, 3, 8, 8)
    assert not torch.allclose(network(image, torch.tensor([0.2])), network(image, torch.tensor([0.3])))
    torch.testing.assert_close(network(image), network(image, torch.zeros(1)))


def test_layers_of_mamba_nd_take_turns() -> None:
    routes = [layer.mixer.scan.on((2, 2))[0].index_KL.tolist() for layer in mamba_nd().layers]
    assert routes == [[[0, 1, 2, 3]], [[3, 2, 1, 0]], [[0, 2, 1, 3]], [[3, 1, 2, 0]], [[0, 1, 2, 3]]]


def test_a_layer_of_mamba_nd_adds_to_its_norm() -> None:
    torch.manual_seed(0)
    scan = Scan("nd", volume.mamba_nd, "sum", "alternate").for_block(3)
    layer = MambaNDLayer(8, scan, d_state=3)
    x_BLC = torch.randn(2, 24, 8)
    normed = layer.norm(x_BLC)
    torch.testing.assert_close(layer(x_BLC, (2, 3, 4)), normed + layer.mixer(normed, (2, 3, 4)))


def test_published_merging_of_mamba_nd() -> None:
    """mmpretrain unfolds 2x2 neighbours channel by channel."""
    network = mamba_nd()
    torch.nn.init.normal_(network.merging["1"].norm.weight)
    published = {}
    for name, tensor in network.state_dict().items():
        name = name.replace("tokens.patch_embed.proj", "patch_embed.projection").replace("tokens.", "")
        name = name.replace("merging.1.", "layers.1.down_sample_layer.")
        name = name.replace("mixer.x_proj", "mixer.x_proj.weight").replace("mixer.dt_proj", "mixer.dt_proj.weight")
        name = name.replace("mixer.dt_bias", "mixer.dt_proj.bias").replace("head.", "head.fc.")
        own = "mixer." in name and not any(part in name for part in ("in_proj", "out_proj", "conv1d"))
        published[name if name.startswith("head") else f"backbone.{name}"] = tensor[0] if own else tensor
    other = mamba_nd()
    load_strictly(other, map_mamba_nd(published), "here")
    x_BHWC = torch.randn(2, 4, 6, 8)
    unfolded = F.unfold(x_BHWC.permute(0, 3, 1, 2), 2, stride=2).transpose(1, 2)
    merging = network.merging["1"]
    expected = merging.reduction(merging.norm(unfolded)).unflatten(1, (2, 3))
    torch.testing.assert_close(other.merging["1"](x_BHWC), expected)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mamba_nd(merge_after=(4,)), "layers 0 to 3"),
        (lambda: rsmamba(position="cosine"), "'cosine'"),
        (lambda: zigma()(torch.rand(1, 3, 7, 8)), "7x8"),
        (lambda: zigma(scan=Scan("random", partial(planar.random, routes=0))), "routes >= 1"),
    ],
)
def test_bad_arguments(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()

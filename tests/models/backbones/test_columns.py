"""Vim, LocalVim and VideoMamba: published parameter counts and names, sizes, other scans, gradients, named faults."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dehaze_bench.errors import UsageError
from dehaze_bench.models.backbones.localvim import LocalVim
from dehaze_bench.models.backbones.videomamba import VideoMamba
from dehaze_bench.models.backbones.vim import Vim
from dehaze_bench.nn.branched import Branched
from dehaze_bench.nn.column import Column
from dehaze_bench.scans import Scan, Walk, planar, volume
from dehaze_bench.scans.windows import CANDIDATES
from dehaze_bench.weights import load_strictly
from dehaze_bench.weights.maps.localvim import map_localvim
from dehaze_bench.weights.maps.videomamba import map_videomamba
from dehaze_bench.weights.maps.vim import map_vim
from tests.models.backbones.building import backbone, count, learns

PUBLISHED = {
    "vim_t": 7_148_008,
    "vim_t_plus": 7_250_344,
    "vim_s": 25_796_584,
    "vim_s_plus": 26_001_256,
    "vim_b": 97_598_440,
    "localvim_t": 7_994_152,
    "localvim_t_midcls": 7_994_536,
    "localvim_s": 27_783_784,
    "videomamba_ti": 7_148_008,
    "videomamba_s": 25_796_584,
    "videomamba_m": 74_217_448,
    "videomamba_b": 97_598_440,
    "videomamba_ti_video": 7_149_544,
}
SMALL: dict[str, Callable[..., Column]] = {"vim": Vim, "localvim": LocalVim, "videomamba": VideoMamba}


def small(name: str, **arguments: Any) -> Column:
    torch.manual_seed(0)
    sizes = {"dim": 8, "depth": 3, "d_state": 3, "patch": 4, "image_size": 16, "num_classes": 3, **arguments}
    if name == "vim":
        sizes.setdefault("stride", sizes["patch"])
    return SMALL[name](**sizes)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert count(backbone(name)) == PUBLISHED[name]


def test_multiply_accumulates_of_vim_ti_are_the_measured_ones() -> None:
    network = backbone("vim_t")
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 224, 224, device="meta"))
    counts = {str(op): number for op, number in counter.get_flop_counts()["Global"].items()}
    scans = sum(number for op, number in counts.items() if "selective_scan" in op)
    assert scans == 9 * 24 * 2 * 197 * 384 * 16
    assert round((counter.get_total_flops() - scans) / 2e9, 3) == 1.293


@pytest.mark.parametrize("size", [(16, 16), (12, 28), (4, 4)])
@pytest.mark.parametrize("name", SMALL)
def test_one_map_at_any_size(name: str, size: tuple[int, int]) -> None:
    network = small(name).eval()
    (found,) = network.features(torch.rand(2, 3, *size))
    assert found.shape == (2, *network.widths, size[0] // 4, size[1] // 4)
    assert network(torch.rand(2, 3, *size)).shape == (2, 3)
    assert small(name, num_classes=0)(torch.rand(2, 3, *size)).shape == (2, 8)


def test_localvim_takes_sizes_that_patches_do_not_divide() -> None:
    network = small("localvim").eval()
    image = torch.rand(1, 3, 13, 18)
    padded = torch.nn.functional.pad(image, (0, 2, 0, 3))
    torch.testing.assert_close(network(image), network(padded))
    with pytest.raises(UsageError, match="13x18"):
        small("vim")(image)


def test_overlapping_patches_give_a_map_of_their_stride() -> None:
    """A cell of the stride is the mean of the patches that cover it: one at a corner, two at a border, else four."""
    tokens = small("vim", patch=8, stride=4, image_size=24, class_token="none").tokens
    grid = tokens.patch_embed.grid(16, 24)
    assert grid == (3, 5)
    x_BLC = torch.arange(15.0).reshape(1, 15, 1)
    found = tokens.to_map(x_BLC, grid)
    assert found.shape == (1, 1, 4, 6)
    assert found[0, 0, 0, 0] == 0
    assert found[0, 0, 0, 1] == (0 + 1) / 2
    assert found[0, 0, 1, 1] == (0 + 1 + 5 + 6) / 4
    assert found[0, 0, 3, 5] == 14


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vim", {}),
        ("vim", {"mixer": "v1"}),
        ("vim", {"class_token": "none", "position": "sine"}),
        ("localvim", {}),
        ("localvim", {"class_token": "middle"}),
        ("localvim", {"directions": None}),
        ("videomamba", {}),
        ("videomamba", {"frames": 2}),
    ],
)
def test_every_parameter_learns(name: str, arguments: dict[str, Any]) -> None:
    network = small(name, **arguments, drop_path=0.0)
    frames = (3,) if "frames" in arguments else ()
    learns(network.train(), torch.rand(2, 3, *frames, 12, 16))


@pytest.mark.parametrize("name", SMALL)
def test_another_scan_has_a_branch_per_route(name: str) -> None:
    network = small(name, scan=Scan("cross", planar.cross, "sum"))
    mixers = [layer.mixer for layer in network.layers]
    assert all(isinstance(mixer, Branched) and mixer.num_routes == 4 for mixer in mixers)
    learns(network, torch.rand(2, 3, 12, 16))
    turns = small(name, scan=Scan("turns", planar.cross, "sum", "alternate"))
    routes = [layer.mixer.scan.on((4, 4))[0].index_KL[0, :3].tolist() for layer in turns.layers]
    assert routes == [[0, 1, 2], [0, 4, 8], [15, 14, 13]]
    assert turns(torch.rand(1, 3, 16, 16)).shape == (1, 3)


def test_the_published_scan_given_is_the_native_one() -> None:
    image = torch.rand(1, 3, 16, 16)
    given = small("vim", scan=Scan("given", planar.bidirectional, "mean")).eval()
    torch.testing.assert_close(given(image), small("vim").eval()(image))
    given = small("videomamba", frames=2, scan=Scan("given", volume.spatial_first, "sum")).eval()
    video = torch.rand(1, 3, 2, 16, 16)
    torch.testing.assert_close(given(video), small("videomamba", frames=2).eval()(video))


def test_a_video_of_one_frame_is_its_picture() -> None:
    video, picture = small("videomamba", frames=1).eval(), small("videomamba").eval()
    shared = {key: tensor for key, tensor in video.state_dict().items() if "temporal" not in key}
    picture.load_state_dict(shared)
    image = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(video(image[:, :, None]), picture(image))


def test_time_and_place_have_tables_of_their_own() -> None:
    tokens = small("videomamba", frames=2).tokens
    assert tokens.temporal_pos_embed is not None
    nn.init.normal_(tokens.temporal_pos_embed)
    same = torch.rand(1, 3, 1, 16, 16).expand(-1, -1, 2, -1, -1)
    x_BLC, grid = tokens(same)
    assert grid == (2, 4, 4)
    difference = tokens.temporal_pos_embed[0, 1] - tokens.temporal_pos_embed[0, 0]
    torch.testing.assert_close(x_BLC[:, 17:] - x_BLC[:, 1:17], difference.expand(1, 16, -1))
    x_BLC, grid = tokens(torch.rand(1, 3, 5, 8, 12))  # the tables are resized
    assert grid == (5, 2, 3)
    assert x_BLC.shape == (1, 31, 8)


def test_a_resized_table_keeps_the_row_of_the_class_token() -> None:
    tokens = small("vim").tokens
    assert tokens.pos_embed is not None and tokens.cls_token is not None
    with torch.no_grad():
        tokens.pos_embed.zero_()
        tokens.pos_embed[0, 8] = 7.0
        tokens.cls_token.zero_()
        tokens.patch_embed.proj.weight.zero_()
    x_BLC, grid = tokens(torch.rand(1, 3, 8, 20))
    assert tokens.class_at(grid) == 5
    expected = torch.zeros(1, 11, 8)
    expected[:, 5] = 7.0
    torch.testing.assert_close(x_BLC, expected)


def test_stochastic_depth_begins_after_the_first_layer() -> None:
    network = small("vim", drop_path=0.3, depth=4)
    assert [layer.drop_path.rate for layer in network.layers] == pytest.approx([0, 0, 0.1, 0.2])
    assert network.drop_path.rate == 0.3
    image = torch.rand(2, 3, 16, 16)
    assert not torch.equal(network.train()(image), network.eval()(image))


def test_starting_values_have_the_published_quirks() -> None:
    for name, drawn in (("vim", True), ("localvim", False), ("videomamba", False)):
        network = small(name, dim=32, depth=2)
        for layer in network.layers:
            assert layer.mixer.dt_bias[0].any().item() is drawn
            assert not layer.mixer.dt_bias[1:].any()
            bound = 1 / math.sqrt(64 * 2)  # fan in, depth
            assert 0.9 * bound < layer.mixer.out_proj.weight.abs().max() <= bound
        assert not network.head.bias.any()


def test_a_search_finds_the_directions_that_weigh_most() -> None:
    network = small("localvim", directions=None)
    assert isinstance(network, LocalVim)
    with torch.no_grad():
        for layer in network.layers:
            layer.mixer.merge.weights.copy_(torch.tensor([0.0, 3, 0, 2, 0, 0, 4, 1]))
    assert network.best_directions() == [["h_flip", "v_flip", "w7", "w7_flip"]] * 3
    found = small("localvim", directions=network.best_directions())
    assert found(torch.rand(1, 3, 16, 16)).shape == (1, 3)
    with pytest.raises(UsageError, match="1 to 8"):
        network.best_directions(9)
    with pytest.raises(UsageError, match="does not search"):
        found.best_directions()  # type: ignore[operator]


def published_mixer(suffixes: list[str], dim: int, state: int) -> dict[str, torch.Tensor]:
    width, rank = 2 * dim, -(-dim // 16)
    shapes: dict[str, tuple[int, ...]] = {"in_proj.weight": (2 * width, dim), "out_proj.weight": (dim, width)}
    for suffix in suffixes:
        log = f"A{suffix}_log" if suffix in ("", "_b", "_s") else f"A_log{suffix}"
        shapes |= {
            log: (width, state),
            f"D{suffix}": (width,),
            f"conv1d{suffix}.weight": (width, 1, 4),
            f"conv1d{suffix}.bias": (width,),
            f"x_proj{suffix}.weight": (rank + 2 * state, width),
            f"dt_proj{suffix}.weight": (width, rank),
            f"dt_proj{suffix}.bias": (width,),
        }
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def published(suffixes: list[str], tokens: int, **more: tuple[int, ...]) -> dict[str, torch.Tensor]:
    found = {"pos_embed": torch.randn(1, tokens, 8), "patch_embed.proj.bias": torch.randn(8)}
    found |= {"norm_f.weight": torch.randn(8), "head.weight": torch.randn(3, 8), "head.bias": torch.randn(3)}
    found |= {name.replace("__", "."): torch.randn(shape) for name, shape in more.items()}
    for i in range(3):
        found[f"layers.{i}.norm.weight"] = torch.randn(8)
        for name, tensor in published_mixer(suffixes, 8, 3).items():
            found[f"layers.{i}.mixer.{name}"] = tensor
    return found


def test_published_names_of_vim_and_videomamba() -> None:
    tensors = published(["", "_b"], 17, cls_token=(1, 1, 8), patch_embed__proj__weight=(8, 3, 4, 4))
    network = small("vim")
    load_strictly(network, map_vim(tensors), "here")
    mixer = network.layers[1].mixer
    assert torch.equal(mixer.x_proj[1], tensors["layers.1.mixer.x_proj_b.weight"])
    assert torch.equal(mixer.conv1d.weight[16:], tensors["layers.1.mixer.conv1d_b.weight"])
    load_strictly(small("videomamba"), map_videomamba(tensors), "here")
    tensors |= {"temporal_pos_embedding": torch.randn(1, 2, 8), "patch_embed.proj.weight": torch.randn(8, 3, 1, 4, 4)}
    load_strictly(small("videomamba", frames=2), map_videomamba(tensors), "here")


def test_published_names_of_the_first_version() -> None:
    tensors = published([""], 17, cls_token=(1, 1, 8), patch_embed__proj__weight=(8, 3, 4, 4))
    tensors |= {f"layers.{i}.mixer.A_b_log": torch.randn(16, 3) for i in range(3)}
    network = small("vim", mixer="v1")
    load_strictly(network, map_vim(tensors), "here")
    assert torch.equal(network.layers[2].mixer.A_log[0], tensors["layers.2.mixer.A_b_log"])


@pytest.mark.parametrize("search", [False, True])
def test_published_names_of_localvim(search: bool) -> None:
    num = 8 if search else 4
    tensors = published([f"_{k}" for k in range(num)], 16, patch_embed__proj__weight=(8, 3, 4, 4))
    for i in range(3):
        attention = {"norm": (16,), "global_reduce": (2, 16), "channel_select": (16, 2)}
        for part, shape in attention.items():
            tensors[f"layers.{i}.mixer.attn.{part}.weight"] = torch.randn(shape)
            tensors[f"layers.{i}.mixer.attn.{part}.bias"] = torch.randn(shape[0])
        if search:
            tensors[f"layers.{i}.mixer.multi_scan.weights"] = torch.randn(8, 1, 1, 1)
    tensors |= {"rope.freqs_cos": torch.zeros(16, 8), "rope.freqs_sin": torch.zeros(16, 8)}
    network = small("localvim", directions=None if search else CANDIDATES[:4])
    load_strictly(network, map_localvim(tensors), "here")
    assert torch.equal(network.layers[0].mixer.A_log[num - 1], tensors[f"layers.0.mixer.A_log_{num - 1}"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: small("vim", mixer="v3"), "'v3'"),
        (lambda: small("vim", class_token="last"), "'last'"),
        (lambda: small("vim", position="cosine"), "'cosine'"),
        (lambda: small("localvim", directions=[["h"], ["v"]]), "3 layers needs as many lists"),
        (lambda: small("localvim", directions=["diagonal"])(torch.rand(1, 3, 16, 16)), "'diagonal'"),
        (lambda: small("videomamba")(torch.rand(1, 3, 2, 16, 16)), "takes pictures"),
        (lambda: small("videomamba", frames=2)(torch.rand(1, 3, 16, 16)), "takes videos"),
        (
            lambda: small("videomamba", frames=2, scan=Scan("cross", planar.cross))(torch.rand(1, 3, 2, 16, 16)),
            "two axes",
        ),
        (lambda: small("vim", scan=Scan("coarse", (Walk(planar.raster, scale=2),))), "'coarse'"),
    ],
)
def test_bad_arguments(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()

"""Mamba-2, S4D and the GRU control: against literal versions, along routes, on the meta device, and their errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.mixers import GRU, S4D, Mamba2, Mixer
from dehaze_bench.nn.scanned import ScannedLayer
from dehaze_bench.ops.lti import discretise
from dehaze_bench.ops.lti import reference as lti_reference
from dehaze_bench.ops.ssd import reference as ssd_reference
from dehaze_bench.scans import Scan, Walk, planar
from dehaze_bench.verify import verify

MIXERS: dict[str, Callable[[int], Mixer]] = {
    "mamba2": partial(Mamba2, d_state=4),
    "grouped": partial(Mamba2, d_state=4, headdim=1, ngroups=2),
    "s4d": partial(S4D, d_state=8),
    "legs": partial(S4D, d_state=8, init="legs", discretization="bilinear"),
    "real": partial(S4D, d_state=8, init="real"),
    "random": partial(S4D, d_state=8, init="random"),
    "gru": GRU,
}
SCANS = {
    "raster": Scan("raster", planar.raster, "mean"),
    "cross": Scan("cross", planar.cross, "sum"),
    "random": Scan("random", partial(planar.random, seed=3), "mean"),
    "padded": Scan("padded", lambda grid: np.append(planar.bidirectional(grid), [[-1], [-1]], axis=1), "sum"),
    "coarse": Scan("coarse", (Walk(planar.raster, scale=2),), "sum"),
    "channels": Scan("channels", (Walk(planar.raster), Walk(planar.bidirectional, axis="channel")), "sum"),
}


def stir(module: torch.nn.Module) -> None:
    """Move every parameter a little, so that nothing is hidden behind an initial zero or one."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


@pytest.mark.parametrize("name", ["ops_mamba2_simple", "ops_ssd_minimal", "ops_lti_s4d"])
def test_golden_fixtures(golden: Path, name: str) -> None:
    report = verify([golden / name])
    assert report.exit_code == 0
    assert {row.array.split(" ")[0] for row in report.rows} >= {
        array
        for array in json.loads((golden / name / "spec.json").read_text())["arrays"]
        if array.startswith(("out", "y"))
    }


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("ops_ssd_minimal", "head_dim", 4, "where build states"),
        ("ops_lti_s4d", "length", 9, "where build states"),
        ("ops_lti_s4d", "note", "complex", "is not supported"),
        ("ops_mamba2_simple", "norm", "LayerNorm", "is not supported"),
        ("ops_mamba2_simple", "d_state", 8, "instead of"),
        ("ops_mamba2_simple", "dilation", 8, "does not understand"),
        ("ops_ssd_minimal", "dilation", 8, "does not understand"),
        ("ops_lti_s4d", "dilation", 8, "does not understand"),
    ],
)
def test_build_arguments_are_used(
    golden: Path, tmp_path: Path, name: str, key: str, value: object, message: str
) -> None:
    spec = json.loads((golden / name / "spec.json").read_text())
    spec["build"][key] = value
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    (tmp_path / "out.npz").write_bytes((golden / name / "out.npz").read_bytes())
    report = verify([tmp_path])
    assert report.exit_code == 2
    assert message in report.problems[0][1]


@pytest.mark.parametrize("length", [1, 2, 33])
@pytest.mark.parametrize("dim", [4, 7, 10])
@pytest.mark.parametrize("name", MIXERS)
def test_any_length_and_width_forward_and_backward(name: str, dim: int, length: int) -> None:
    torch.manual_seed(0)
    mixer = MIXERS[name](dim)
    x_BLC = torch.randn(2, length, dim, requires_grad=True)
    y_BLC = mixer(x_BLC)
    assert y_BLC.shape == x_BLC.shape
    assert mixer.mix(mixer.enter(x_BLC)[0]).shape == (2, length, mixer.width)
    y_BLC.square().sum().backward()
    assert torch.isfinite(y_BLC).all()
    assert x_BLC.grad is not None
    assert torch.isfinite(x_BLC.grad).all()
    for key, parameter in mixer.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("grid", [(1, 5), (5, 1), (3, 5)])
@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("name", ["mamba2", "s4d", "gru"])
def test_along_routes_on_odd_grids(name: str, scan: str, grid: tuple[int, int]) -> None:
    torch.manual_seed(1)
    layer = ScannedLayer(6, MIXERS[name], SCANS[scan])
    stir(layer)
    x_BHWC = torch.randn(2, *grid, 6, requires_grad=True)
    y_BHWC = layer(x_BHWC)
    assert y_BHWC.shape == x_BHWC.shape
    y_BHWC.square().sum().backward()
    assert torch.isfinite(y_BHWC).all()
    assert x_BHWC.grad is not None
    assert torch.isfinite(x_BHWC.grad).all()


@pytest.mark.parametrize("name", ["mamba2", "s4d", "gru"])
def test_route_is_what_the_mixer_sees(name: str) -> None:
    torch.manual_seed(2)
    layer = ScannedLayer(6, MIXERS[name], SCANS["random"])
    x_BHWC = torch.randn(2, 3, 5, 6)
    order = SCANS["random"].on((3, 5))[0].index_KL[0]
    s_BLD, gate_BLD = layer.mixer.enter(x_BHWC.flatten(1, 2))
    mixed = torch.empty(2, 15, layer.mixer.width)
    mixed[:, order] = layer.mixer.mix(s_BLD[:, order])
    expected = layer.mixer.leave(layer.norm(mixed), gate_BLD).unflatten(1, (3, 5))
    torch.testing.assert_close(layer(x_BHWC), expected, rtol=1e-4, atol=1e-5)


def test_state_spaces_look_back_only_and_the_gru_both_ways() -> None:
    for name, maker in MIXERS.items():
        torch.manual_seed(4)
        mixer = maker(8)
        x_BLC = torch.randn(1, 8, 8)
        changed = x_BLC.clone()
        changed[:, 5] += 1
        differs = (mixer(changed) - mixer(x_BLC)).abs().amax(-1)[0] > 1e-5  # a transform rounds at all tokens
        assert differs[5:].all(), name
        assert bool(differs[:5].any()) == (name == "gru"), name


@pytest.mark.parametrize("groups", [1, 3])
def test_mamba2_is_its_formula(groups: int) -> None:
    torch.manual_seed(5)
    mixer = Mamba2(9, d_state=4, d_conv=3, headdim=3, ngroups=groups)
    stir(mixer)
    x_BLC = torch.randn(2, 11, 9)
    z, xBC, dt = (x_BLC @ mixer.in_proj.weight.T).split([18, 18 + 8 * groups, 6], dim=-1)
    padded = F.pad(xBC, (0, 0, 2, 0))
    kernel = mixer.conv1d.weight[:, 0]
    xBC = sum(padded[:, k : k + 11] * kernel[:, k] for k in range(3)) + mixer.conv1d.bias
    x, B, C = F.silu(xBC).split([18, 4 * groups, 4 * groups], dim=-1)
    dt = F.softplus(dt + mixer.dt_bias)
    B, C = (v.unflatten(2, (groups, 4)) for v in (B, C))
    y, _ = ssd_reference.scan(x.unflatten(2, (6, 3)), dt, -mixer.A_log.exp(), B, C, mixer.D)
    gated = (y.flatten(2) * F.silu(z)).unflatten(2, (groups, -1))
    normed = gated / (gated.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    expected = (normed.flatten(2) * mixer.norm.weight) @ mixer.out_proj.weight.T
    torch.testing.assert_close(mixer(x_BLC), expected, rtol=1e-4, atol=1e-5)


def test_mamba2_has_the_published_names_and_shapes() -> None:
    """Of the 130M language model's blocks: d_model 768, d_state 128, headdim 64."""
    with torch.device("meta"):
        mixer = Mamba2(768, d_state=128, headdim=64)
    assert {name: tuple(value.shape) for name, value in mixer.state_dict().items()} == {
        "dt_bias": (24,),
        "A_log": (24,),
        "D": (24,),
        "in_proj.weight": (3352, 768),
        "conv1d.weight": (1792, 1, 4),
        "conv1d.bias": (1792,),
        "norm.weight": (1536,),
        "out_proj.weight": (768, 1536),
    }


def test_mamba2_starts_in_the_published_ranges() -> None:
    torch.manual_seed(6)
    mixer = Mamba2(512, headdim=4)
    step, rate = F.softplus(mixer.dt_bias.detach()), mixer.A_log.detach().exp()
    assert 1e-3 <= float(step.min()) < 2e-3 < 5e-2 < float(step.max()) <= 0.1 + 1e-6
    assert 1 <= float(rate.min()) < 2 < 15 < float(rate.max()) <= 16


@pytest.mark.parametrize(("dim", "headdim"), [(24, 16), (4, 8), (26, 13), (17, 2), (22, 11)])
def test_mamba2_chooses_a_head_that_fits(dim: int, headdim: int) -> None:
    assert 2 * dim // Mamba2(dim).num_heads == headdim
    assert Mamba2(dim, ngroups=2).num_heads % 2 == 0


@pytest.mark.parametrize("init", ["lin", "inv", "real", "legs", "random"])
@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_s4d_is_its_recurrence(init: str, method: str) -> None:
    torch.manual_seed(7)
    mixer = S4D(4, d_state=6, init=init, discretization=method)
    s_BLD = torch.randn(2, 13, 8)
    A: Tensor = -mixer.log_A_real.exp()
    C: Tensor = mixer.C
    if mixer.A_imag is not None:
        A, C = torch.complex(A, mixer.A_imag), torch.complex(*C.unbind(-1))
    assert A.shape == (8, 6 if init == "real" else 3)
    Abar, Bbar = discretise(A, torch.ones_like(A), mixer.log_dt.exp(), method)
    expected = F.gelu(lti_reference.scan(s_BLD, Abar, Bbar, C, mixer.D))
    torch.testing.assert_close(mixer.mix(s_BLD), expected, rtol=1e-4, atol=1e-5)
    order = torch.randperm(13)
    gathered = torch.empty_like(s_BLD)
    gathered[:, order] = mixer.mix(s_BLD[:, order])
    torch.testing.assert_close(mixer.mix(s_BLD, order), gathered, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dim", [1, 5, 8])
def test_gru_on_the_meta_device_counts_what_the_loop_multiplies(dim: int) -> None:
    x_BLC = torch.randn(2, 7, dim)
    counts = []
    for device in ("cpu", "meta"):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            y_BLC = GRU(dim, expand=1.5).to(device)(x_BLC.to(device))
        counts.append(counter.get_total_flops())
        assert y_BLC.shape == x_BLC.shape
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("name", MIXERS)
def test_built_without_memory(name: str) -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        mixer = MIXERS[name](12)
        y_BLC = mixer(torch.empty(3, 2**20, 12))
    assert (y_BLC.shape, y_BLC.device.type) == ((3, 2**20, 12), "meta")
    assert {parameter.device.type for parameter in mixer.parameters()} == {"meta"}
    assert counter.get_total_flops() > 3 * 2**20 * 12 * 12


@pytest.mark.parametrize("name", ["mamba2", "s4d", "gru"])
def test_autocast(name: str) -> None:
    torch.manual_seed(8)
    mixer = MIXERS[name](8)
    x_BLC = torch.randn(2, 20, 8)
    with torch.autocast("cpu", torch.bfloat16):
        half = mixer(x_BLC)
        half.float().square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in mixer.parameters())
    assert float((half - mixer(x_BLC)).detach().norm() / half.detach().float().norm()) < 3e-2


@pytest.mark.parametrize("name", MIXERS)
def test_weight_decay_is_kept_from_real_parameters(name: str) -> None:
    mixer = MIXERS[name](8)
    exempt = set(getattr(mixer, "no_weight_decay", tuple)())
    assert exempt <= {*dict(mixer.named_parameters()), "A_imag"}
    assert bool(exempt) == (name != "gru")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Mamba2(24, headdim=13), "inner width 48 .* headdim=13 channels: use headdim=12"),
        (lambda: Mamba2(24, headdim=16, ngroups=2), "ngroups=2 groups of whole heads .*: use headdim=12"),
        (lambda: Mamba2(24, ngroups=5), "48 cannot be split into ngroups=5 .*: use ngroups=1"),
        (lambda: Mamba2(24, d_state=0), "d_state=0"),
        (lambda: Mamba2(24, d_conv=0), "d_conv=0"),
        (lambda: S4D(8, init="lon"), "Did you mean 'lin'"),
        (lambda: S4D(8, discretization="bilnear"), "Did you mean 'bilinear'"),
        (lambda: S4D(8, d_state=5), "even and positive"),
        (lambda: S4D(8, dt_min=0.5), "dt_min=0.5"),
        (lambda: GRU(8, expand=0), "expand > 0"),
    ],
)
def test_bad_arguments(make: Callable[[], Mixer], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()

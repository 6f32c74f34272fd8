"""The wrappers around mamba-ssm: their layouts on stand-ins for its kernels, and its real SSD kernels interpreted."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.ops import ssd, vendor
from dehaze_bench.ops.selective_scan import vendor as scan_vendor
from dehaze_bench.ops.ssd import reference as ssd_reference
from dehaze_bench.ops.ssd import vendor as ssd_vendor

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial")
CHUNK = 8  # of the stand-in, so that a short scan crosses several


# ---- the selective scan ----


def scan_raster(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None) -> tuple[Tensor, Tensor]:
    """What the kernels compute, in their layout; also their states at the ends of chunks, interleaved as they are."""
    group = A.shape[0] // B.shape[1]
    h = u.new_zeros(u.shape[0], *A.shape)
    y, kept = [], []
    for t in range(u.shape[2]):
        B_t, C_t = (x[..., t].repeat_interleave(group, 1) for x in (B, C))
        h = torch.exp(delta[:, :, t, None] * A) * h + (delta[:, :, t] * u[:, :, t])[..., None] * B_t
        y.append((h * C_t).sum(-1) + (0 if D is None else D * u[:, :, t]))
        if (t + 1) % CHUNK == 0 or t + 1 == u.shape[2]:
            kept.append(torch.stack([torch.full_like(h, 7.0), h], -1).flatten(-2))
    return torch.stack(y, -1), torch.stack(kept, 2)


def check_as_the_extension(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None) -> None:
    batch, channels, length = u.shape
    states = A.shape[1]
    assert delta.shape == u.shape and A.shape == (channels, states) and B.shape == C.shape
    assert B.shape == (batch, B.shape[1], states, length) and channels % B.shape[1] == 0
    for x in (u, delta, A, B, C, *([] if D is None else [D])):
        assert x.dtype == torch.float32 and x.is_contiguous()


class StandIn:
    """`selective_scan_cuda` in torch: the arguments of the real one, and its demands on them."""

    def fwd(self, u, delta, A, B, C, D, z, delta_bias, delta_softplus):  # type: ignore[no-untyped-def]
        check_as_the_extension(u, delta, A, B, C, D)
        assert z is None and delta_bias is None and not delta_softplus
        return list(scan_raster(u, delta, A, B, C, D))

    def bwd(self, u, delta, A, B, C, D, z, delta_bias, dout, x, out, dz, delta_softplus, recompute):  # type: ignore[no-untyped-def]
        check_as_the_extension(u, delta, A, B, C, D)
        assert dout.is_contiguous() and dout.shape == u.shape and not delta_softplus and not recompute
        assert x.is_contiguous() and torch.equal(x, scan_raster(u, delta, A, B, C, D)[1])
        inputs = [v.clone().requires_grad_() for v in (u, delta, A, B, C, *([] if D is None else [D]))]
        with torch.enable_grad():
            y = scan_raster(*inputs, *([None] if D is None else []))[0]
        found = list(torch.autograd.grad(y, inputs, dout))
        return [*found, *([None] if D is None else []), None]


def scan_slowly(  # type: ignore[no-untyped-def]
    u, delta, A, B, C, D, z, bias, initial, softplus: bool, index: Tensor, merged: bool
) -> tuple[Tensor, Tensor]:
    """The definition of the K-route scan, one route and one step at a time."""
    batch, num_tokens, num_channels = u.shape
    group = num_channels // B.shape[3]
    y = [[u.new_zeros(batch, num_channels) for _ in range(len(index))] for _ in range(num_tokens)]
    last = []
    for k, route in enumerate(index.tolist()):
        h = u.new_zeros(batch, *A.shape[1:]) if initial is None else initial[:, k]
        for token in route:
            raw = (0 if token < 0 else delta[:, token, k]) + (0 if bias is None else bias[k]) + u.new_zeros(batch, 1)
            step = (F.softplus(raw, threshold=20.0) if softplus else raw)[..., None]
            h = torch.exp(step * A[k]) * h
            if token < 0:
                continue
            B_t, C_t = (x[:, token, k].repeat_interleave(group, 1) for x in (B, C))
            h = h + step * u[:, token, :, None] * B_t
            out = (h * C_t).sum(-1) + (0 if D is None else D[k] * u[:, token])
            y[token][k] = y[token][k] + (out if z is None else out * F.silu(z[:, token]))
        last.append(h)
    y_BLKD = torch.stack([torch.stack(routes, 1) for routes in y], 1)
    return (y_BLKD.sum(2) if merged else y_BLKD), torch.stack(last, 1)


def draw(full: bool) -> dict[str, Tensor | None]:
    """Inputs of two items, 11 tokens, 3 routes, 4 channels, 2 groups and 3 states."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    inputs: dict[str, Tensor | None] = {
        "u": normal(2, 11, 4),
        "delta": normal(2, 11, 3, 4),
        "A": -normal(3, 4, 3).exp(),
        "B": normal(2, 11, 3, 2, 3),
        "C": normal(2, 11, 3, 2, 3),
    }
    optional = {"D": (3, 4), "z": (2, 11, 4), "delta_bias": (3, 4), "initial": (2, 3, 4, 3)}
    return inputs | {name: normal(*shape) if full else None for name, shape in optional.items()}


def draw_index(kind: str) -> Tensor | None:
    generator = torch.Generator().manual_seed(5)
    if kind == "raster":
        return None
    if kind == "permutations":
        return torch.stack([torch.randperm(11, generator=generator) for _ in range(3)])
    return torch.randint(-1, 11, (3, 14), generator=generator)  # pads, skips and repeats


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor, "load_selective_scan", StandIn)
    monkeypatch.setattr(scan_vendor, "CHUNK", CHUNK)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("kind", ["raster", "permutations", "anything"])
def test_selective_scan_on_a_stand_in(full: bool, merged: bool, kind: str) -> None:
    inputs, index = draw(full), draw_index(kind)
    rows = torch.arange(11).expand(3, -1) if index is None else index
    leaves = [None if x is None else x.double().requires_grad_() for x in inputs.values()]
    expected = scan_slowly(*leaves, full, rows, merged)
    generator = torch.Generator().manual_seed(7)
    dy, dlast = (torch.randn(x.shape, generator=generator) for x in expected)
    torch.autograd.backward(expected, [dy.double(), dlast.double()])
    arguments = [inputs[name] for name in NAMES[:8]]

    y, last, states = scan_vendor.scan(*arguments, full, index, inputs["initial"], merged, True)  # type: ignore[arg-type]
    assert states.shape == scan_vendor.states_shape(2, 3, rows.shape[1], 4, 3)
    for a, b in zip((y, last), expected, strict=True):
        torch.testing.assert_close(a.double(), b.detach(), rtol=1e-5, atol=1e-5)
    found = scan_vendor.scan_backward(dy, dlast, states, *arguments, full, index, merged)  # type: ignore[arg-type]
    for name, leaf in zip(NAMES, leaves, strict=True):
        if leaf is not None:
            torch.testing.assert_close(found[name].double(), leaf.grad, rtol=1e-4, atol=1e-5, msg=name)
    again = scan_vendor.scan(*arguments, full, index, inputs["initial"], merged, False)  # type: ignore[arg-type]
    assert torch.equal(again[0], y) and again[2].shape == (0,)


@pytest.mark.usefixtures("stand_in")
def test_selective_scan_takes_narrow_slices() -> None:
    inputs = draw(True)
    wide = {name: None if x is None else torch.cat([x, x], -1).bfloat16() for name, x in inputs.items()}
    halves = {name: None if x is None else x[..., : x.shape[-1] // 2] for name, x in wide.items()}
    same = {name: None if x is None else x.float().contiguous() for name, x in halves.items()}
    y, _, states = scan_vendor.scan(*[halves[n] for n in NAMES[:8]], True, None, halves["initial"], True, True)  # type: ignore[arg-type]
    expected = scan_vendor.scan(*[same[n] for n in NAMES[:8]], True, None, same["initial"], True, True)[0]  # type: ignore[arg-type]
    assert y.dtype == torch.float32 and torch.equal(y, expected)
    dlast = torch.zeros(2, 3, 4, 3)
    found = scan_vendor.scan_backward(y.bfloat16(), dlast, states, *[halves[n] for n in NAMES[:8]], True, None, True)  # type: ignore[arg-type]
    assert all(found[n].dtype == torch.float32 and found[n].shape == same[n].shape for n in NAMES)  # type: ignore[union-attr]


# ---- the SSD ----


def draw_ssd(tokens: int = 21) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    shapes = {
        "x": (1, tokens, 4, 16), "dt": (1, tokens, 4), "A": (4,), "B": (1, tokens, 2, 16), "C": (1, tokens, 2, 16),
        "D": (4,), "z": (1, tokens, 4, 16), "dt_bias": (4,), "initial": (1, 4, 16, 16),
    }  # fmt: skip
    inputs = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    inputs["A"] = -inputs["A"].exp()
    return inputs


def test_ssd_hands_every_argument_over(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def combined(  # type: ignore[no-untyped-def]
        x, dt, A, B, C, chunk_size, D=None, z=None, dt_bias=None, initial_states=None, seq_idx=None,
        cu_seqlens=None, dt_softplus=False, dt_limit=(0.0, float("inf")), return_final_states=False,
        return_varlen_states=False,
    ):  # fmt: skip
        assert B.dtype == C.dtype == z.dtype == x.dtype and return_final_states
        sizes.append(chunk_size)
        return ssd_reference.scan(x, dt, A, B, C, D, z, dt_bias, dt_softplus, dt_limit, None, initial_states)

    monkeypatch.setattr(vendor, "load_ssd", lambda: SimpleNamespace(mamba_chunk_scan_combined=combined))
    inputs = list(draw_ssd().values())
    expected = ssd_reference.scan(*inputs[:8], True, (0.1, 2.0), None, inputs[8])
    for chunk in (3, 16, 48, 256):
        found = ssd_vendor.scan(*inputs[:8], True, (0.1, 2.0), inputs[8], chunk)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert sizes == [16, 16, 64, 256]
    found = ssd_vendor.scan(
        *inputs[:3], *[x.double() for x in inputs[3:5]], *inputs[5:8], True, (0.1, 2.0), inputs[8], 64
    )
    assert found[1].dtype == torch.float32


def conform() -> None:
    """Run mamba-ssm's own kernels, forward and backward, against ours; for a process with Triton's interpreter."""
    torch.cuda.device = lambda index: contextlib.nullcontext()  # type: ignore[assignment,misc]
    torch.cuda.get_device_properties = lambda index=None: SimpleNamespace(multi_processor_count=4)  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(0)
    for tokens, chunk, full in ((64, 32, True), (37, 16, True), (37, 16, False)):
        drawn = draw_ssd(tokens)
        names = list(drawn) if full else list(drawn)[:5]
        limit = (0.05, 1.5) if full else (0.0, float("inf"))
        if not full:
            drawn["dt"] = F.softplus(drawn["dt"])
        ours, theirs = ({n: drawn[n].clone().requires_grad_() for n in names} for _ in range(2))
        y, last = ssd.ssd(
            *[ours[n] for n in ("x", "dt", "A", "B", "C")],
            *[ours.get(n) for n in ("D", "z", "dt_bias")],
            dt_softplus=full,
            dt_limit=limit,
            initial_BHPN=ours.get("initial"),
            return_last_state=True,
        )
        y_theirs, last_theirs = ssd_vendor.scan(
            *[theirs[n] for n in ("x", "dt", "A", "B", "C")],
            *[theirs.get(n) for n in ("D", "z", "dt_bias")],
            full,
            limit,
            theirs.get("initial"),
            chunk,
        )
        dy, dlast = (torch.randn(x.shape, generator=generator) for x in (y, last))
        torch.autograd.backward([y, last], [dy, dlast])
        torch.autograd.backward([y_theirs, last_theirs], [dy, dlast])
        pairs = {"y": (y_theirs, y), "last": (last_theirs, last)}
        pairs |= {f"d{n}": (theirs[n].grad, ours[n].grad) for n in names}
        for name, (a, b) in pairs.items():
            error = float(((a - b).norm() / b.norm()).detach())
            print(f"L {tokens} chunk {chunk} full {full} {name}: {error:.1e}")
            assert error < 1e-5, name
    print("conform")


def mamba_folder() -> Path | None:
    """Where mamba-ssm is: `make test-slow` puts it, without its dependencies, into a folder of the environment."""
    folder = Path(sys.prefix) / "mamba-ssm"
    if (folder / "mamba_ssm").is_dir():
        return folder
    spec = importlib.util.find_spec("mamba_ssm")
    return Path(str(spec.origin)).parents[1] if spec is not None else None


@pytest.mark.slow
@pytest.mark.skipif(mamba_folder() is None, reason="mamba-ssm is not installed: `make test-slow` installs it")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_real_ssd_kernels_conform() -> None:
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "MAMBA_DETERMINISTIC": "1",  # one configuration per kernel: trying several asks for a GPU's driver
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(mamba_folder()), str(Path(__file__).resolve().parents[2])]),
    }
    script = "from tests.ops.test_vendor import conform; conform()"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0 and done.stdout.endswith("conform\n"), done.stdout + done.stderr


# ---- what can be used ----


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A mamba_ssm as it is installed without its extension, on a machine with CUDA."""
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "mamba_ssm"}
    folder = tmp_path / "mamba_ssm" / "ops" / "triton"
    folder.mkdir(parents=True)
    (tmp_path / "mamba_ssm" / "__init__.py").write_text("import selective_scan_cuda\n")
    for path in (folder.parent, folder):
        (path / "__init__.py").write_text("")
    (folder / "ssd_combined.py").write_text("from mamba_ssm.ops.triton import *\nmamba_chunk_scan_combined = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", None)
    vendor._probe.cache_clear()
    yield tmp_path
    vendor._probe.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "mamba_ssm"]:
        del sys.modules[name]
    sys.modules.update(kept)


def test_triton_kernels_load_without_the_extension(package: Path) -> None:
    assert vendor.status("ssd") == ssd_vendor.status() == "ok"
    assert vendor.load_ssd().mamba_chunk_scan_combined == 1
    assert "mamba_ssm" not in sys.modules
    reason = scan_vendor.status()
    assert reason.startswith("mamba-ssm's CUDA kernels of the selective scan cannot be imported (ModuleNotFoundError")
    assert "pip install --no-build-isolation" in reason


@pytest.mark.parametrize("error", ["ImportError", "OSError", "AttributeError"])
def test_broken_installations_are_told_apart(package: Path, monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    (package / "mamba_ssm" / "ops" / "triton" / "ssd_combined.py").write_text(f"raise {error}('libfoo')\n")
    assert f"Triton kernels of the SSD cannot be imported ({error}: libfoo)" in vendor.status("ssd")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    vendor._probe.cache_clear()
    assert "needs a CUDA device" in vendor.status("ssd")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    vendor._probe.cache_clear()
    assert vendor.status("ssd").startswith("mamba-ssm is not installed (pip install")
    with pytest.raises(UsageError, match="Did you mean 'ssd'"):
        vendor.status("sssd")

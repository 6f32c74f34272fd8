"""Fixtures of the state spaces beside the selective scan: SSD, the Mamba-2 block, S4D.

Shapes: B batch, L steps, H heads, P channels of a head, N states, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.mixers.mamba2 import Mamba2
from dehaze_bench.ops.lti import kernel, lti
from dehaze_bench.ops.ssd import reference, ssd
from dehaze_bench.verify.compare import Row, compare_arrays, count_row
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights import load_strictly

# The default backend of the device, and the plain one that it has to agree with.
BACKENDS = ("auto", "reference")


def check_ssd(fixture: Fixture) -> list[Row]:
    """Output and final state of the SSD, from zero and from a given state, and its quadratic form.

    The fixture holds x dt and dt A; ours multiplies by the step itself, so it gets dt = -(dt A) with A = -1.
    """
    build = BuildArguments(fixture)
    batch, length, heads = (build.take(name) for name in ("batch", "length", "heads"))
    head_dim, d_state, chunk = (build.take(name) for name in ("head_dim", "d_state", "chunk"))
    build.finish()
    state = (batch, 1, heads, head_dim, d_state)
    per_step = (batch, length, heads)
    shapes = {"X": (*per_step, head_dim), "A": per_step, "B": (*per_step, d_state), "C": (*per_step, d_state)}
    values = _inputs(fixture, shapes | {"initial_state": state})
    dt_BLH, A_H = -values["A"], -torch.ones(heads)
    arguments = (values["X"] / dt_BLH[..., None], dt_BLH, A_H, values["B"], values["C"])
    ours: dict[str, Tensor] = {}
    for backend in BACKENDS:
        for suffix, final, initial in (
            ("", "final_state", None),
            ("_with_initial", "final_with_initial", values["initial_state"].squeeze(1)),
        ):
            y_BLHP, last_BHPN = ssd(
                *arguments, initial_BHPN=initial, return_last_state=True, chunk=chunk, backend=backend
            )
            ours[f"out{suffix} ({backend})"], ours[f"{final} ({backend})"] = y_BLHP, last_BHPN
    ours["out (quadratic form)"] = reference.attend(*arguments)
    return compare_arrays(fixture, ours)


def check_mamba2_block(fixture: Fixture) -> list[Row]:
    """The Mamba-2 block under its published tensor names."""
    build = BuildArguments(fixture)
    build.take("chunk_size")  # does not change the result
    build.expect("norm", "gated RMSNorm eps 1e-5, gate before norm: norm(y * silu(z))")
    build.expect("in_proj_order", "z, x, B, C, dt")
    block = Mamba2(
        build.take("d_model"),
        d_state=build.take("d_state"),
        d_conv=build.take("d_conv"),
        expand=build.take("expand"),
        headdim=build.take("headdim"),
        ngroups=build.take("ngroups"),
        group_norm=False,
        conv_bias=build.take("conv_bias"),
        bias=build.take("bias"),
    ).eval()
    build.finish()
    load_strictly(block, fixture.weights(), source=str(fixture.path))
    with torch.inference_mode():
        y_BLC = block(fixture.image())
    num_parameters = sum(parameter.numel() for parameter in block.parameters())
    return [*compare_arrays(fixture, {"out": y_BLC}), count_row(fixture, num_parameters)]


def check_lti(fixture: Fixture) -> list[Row]:
    """Kernel and output of a diagonal time-invariant state space, by both discretisations.

    By the default backend in float32, as networks call it, and by the reference in the float64 of the fixture.
    """
    build = BuildArguments(fixture)
    channels, d_state, length = (build.take(name) for name in ("channels", "d_state", "length"))
    build.expect("note", "real diagonal A; published S4D uses complex pairs and 2 Re(.)")
    build.finish()
    per_mode, per_channel = (channels, d_state), (channels,)
    shapes = {"A": per_mode, "B": per_mode, "C": per_mode, "D": per_channel, "dt": per_channel}
    batch = fixture.tensor("u").shape[0]
    values = _inputs(fixture, shapes | {"u": (batch, channels, length)})
    u_BLD = values["u"].transpose(1, 2).contiguous()
    dt_D, A_DN, B_DN, C_DN, D_D = (values[name] for name in ("dt", "A", "B", "C", "D"))
    single = (dt_D.float(), A_DN.float(), B_DN.float(), C_DN.float(), D_D.float())
    ours: dict[str, Tensor] = {}
    for method in ("zoh", "bilinear"):
        ours[f"K_{method}"] = kernel(dt_D, A_DN, B_DN, C_DN, length, method)
        y_BLD = lti(u_BLD.float(), *single, None, method)
        ours[f"y_{method} (auto, float32)"] = y_BLD.transpose(1, 2)
        y_BLD = lti(u_BLD, dt_D, A_DN, B_DN, C_DN, D_D, None, method, backend="reference")
        ours[f"y_{method} (reference)"] = y_BLD.transpose(1, 2)
    return compare_arrays(fixture, ours)


def _inputs(fixture: Fixture, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return the input arrays; raises UsageError unless they are these, in these shapes."""
    if set(fixture.inputs) != set(shapes):
        raise UsageError(f"{fixture.path}: inputs are {', '.join(fixture.inputs)} instead of {', '.join(shapes)}.")
    values = {name: fixture.tensor(name) for name in shapes}
    for name, value in values.items():
        if tuple(value.shape) != shapes[name]:
            stated = f"{tuple(value.shape)} where build states {shapes[name]}"
            raise UsageError(f"{fixture.path}: input {name} has shape {stated}.")
    return values

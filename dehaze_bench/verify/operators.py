"""Fixtures of operators and of the smallest blocks.

Shapes: B batch, L steps, D channels, G groups, N state size, C model channels. The fixtures keep channels
first (B, D, L); ours are channels last.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.mixers.mamba import Mamba
from dehaze_bench.nn.shift import q_shift
from dehaze_bench.ops.selective_scan import selective_scan
from dehaze_bench.ops.wkv import bi_wkv
from dehaze_bench.verify.compare import Row, compare_arrays, count_row
from dehaze_bench.verify.fixture import BuildArguments, Fixture
from dehaze_bench.weights import load_strictly

# The default backend of the device, and the plain one that it has to agree with.
BACKENDS = ("auto", "reference")


def check_selective_scan(fixture: Fixture) -> list[Row]:
    """Output and last state of the selective scan, by the default backend and by the reference."""
    build = BuildArguments(fixture)
    build.expect("function", "selective_scan reference")
    sizes = {name: build.take(name) for name in ("batch", "channels", "groups", "d_state", "length")}
    optional = {name: build.take(name) for name in ("z", "D", "delta_bias")}
    softplus = build.take("delta_softplus")
    grouped = build.expect("layout", "B, C carry a group axis", "B, C without a group axis").endswith(
        "carry a group axis"
    )
    build.finish()
    batch, channels, length = (sizes[name] for name in ("batch", "channels", "length"))
    state = ((batch, sizes["groups"]) if grouped else (batch,)) + (sizes["d_state"], length)
    if not grouped and sizes["groups"] != 1:
        raise UsageError(f"{fixture.path}: {sizes['groups']} groups, but B and C have no group axis.")
    shapes = {"u": (batch, channels, length), "A": (channels, sizes["d_state"]), "B": state, "C": state}
    shapes |= {"delta": shapes["u"], "z": shapes["u"], "D": (channels,), "delta_bias": (channels,)}
    for name, present in optional.items():
        if present is not (name in fixture.inputs):
            raise UsageError(f"{fixture.path}: build says {name}={present}, the inputs say otherwise.")
    values: dict[str, Tensor] = {}
    for name in fixture.inputs:
        if name not in shapes:
            raise UsageError(f"{fixture.path}: the check of the selective scan does not understand input '{name}'.")
        values[name] = fixture.tensor(name)
        if tuple(values[name].shape) != shapes[name]:
            stated = f"{tuple(values[name].shape)} where build states {shapes[name]}"
            raise UsageError(f"{fixture.path}: input {name} has shape {stated}.")
    ours: dict[str, Tensor] = {}
    for backend in BACKENDS:
        z_BDL = values.get("z")
        result = selective_scan(
            values["u"].transpose(1, 2).contiguous(),
            values["delta"].transpose(1, 2).contiguous(),
            values["A"],
            torch.movedim(values["B"], -1, 1).contiguous(),
            torch.movedim(values["C"], -1, 1).contiguous(),
            D_D=values.get("D"),
            z_BLD=None if z_BDL is None else z_BDL.transpose(1, 2).contiguous(),
            delta_bias_D=values.get("delta_bias"),
            delta_softplus=bool(softplus),
            return_last_state=True,
            backend=backend,
        )
        y_BLD, last_BDN = result
        ours[f"out ({backend})"] = y_BLD.transpose(1, 2)
        ours[f"last_state ({backend})"] = last_BDN
    return compare_arrays(fixture, ours)


def check_bi_wkv(fixture: Fixture) -> list[Row]:
    """Output of the bidirectional WKV operator.

    By the default backend in float32, as networks call it, and by the reference in the float64 of the
    fixture.
    """
    build = BuildArguments(fixture)
    stated = tuple(build.take(name) for name in ("batch", "tokens", "channels"))
    build.finish()
    decay_C, first_C = fixture.tensor("spatial_decay"), fixture.tensor("spatial_first")
    k_BLC, v_BLC = fixture.tensor("k"), fixture.tensor("v")
    if tuple(k_BLC.shape) != stated:
        raise UsageError(f"{fixture.path}: k has shape {tuple(k_BLC.shape)} where build states {stated}.")
    outputs = {
        "out (auto, float32)": bi_wkv(decay_C.float(), first_C.float(), k_BLC.float(), v_BLC.float(), backend="auto"),
        "out (reference)": bi_wkv(decay_C, first_C, k_BLC, v_BLC, backend="reference"),
    }
    return compare_arrays(fixture, outputs)


def check_q_shift(fixture: Fixture) -> list[Row]:
    """The shift of Vision-RWKV: values are copied, so the tolerance is a formality."""
    build = BuildArguments(fixture)
    channels, grid = build.take("channels"), build.take("grid")
    shift, fraction = build.take("shift"), build.take("fraction")
    build.finish()
    x_BLC = fixture.tensor("x")
    if len(grid) != 2 or x_BLC.shape[1:] != (grid[0] * grid[1], channels):
        stated = f"{channels} channels on a grid of {grid}"
        raise UsageError(f"{fixture.path}: x has shape {tuple(x_BLC.shape)} where build states {stated}.")
    return compare_arrays(fixture, {"out": q_shift(x_BLC, (grid[0], grid[1]), shift, fraction)})


def check_mamba_block(fixture: Fixture) -> list[Row]:
    """The Mamba-1 block under its published tensor names."""
    build = BuildArguments(fixture)
    dim = build.take("d_model")
    build.expect("activation", "silu")
    dt_rank = build.take("dt_rank")
    if dt_rank != "ceil(d_model/16)" and not isinstance(dt_rank, int):
        raise UsageError(f"{fixture.path}: build argument dt_rank={dt_rank!r} is not supported.")
    block = Mamba(
        dim,
        d_state=build.take("d_state"),
        d_conv=build.take("d_conv"),
        expand=build.take("expand"),
        dt_rank=dt_rank if isinstance(dt_rank, int) else None,
        conv_bias=build.take("conv_bias"),
        bias=build.take("bias"),
    ).eval()
    build.finish()
    load_strictly(block, fixture.weights(), source=str(fixture.path))
    with torch.inference_mode():
        y_BLC = block(fixture.image())
    num_parameters = sum(int(np.prod(parameter.shape)) for parameter in block.parameters())
    return [*compare_arrays(fixture, {"out": y_BLC}), count_row(fixture, num_parameters)]

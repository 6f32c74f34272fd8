"""Fixtures of the MIMO family are built from their arguments: sizes, windows, parts, and what is refused."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.frequency_selection import LocalMean
from dehaze_bench.nn.mimo import ConvBlock, ThreeScales
from dehaze_bench.nn.pooled_filter import ModulatedFilter
from dehaze_bench.verify.built import Built
from dehaze_bench.verify.fixture import BuildArguments, Fixture


def build(
    family: str, image: tuple[int, ...] = (1, 3, 32, 32), out: tuple[int, ...] | None = None, **told: Any
) -> Built:
    """Return what the family builds of these arguments, for arrays of a fixture that need not be right."""
    spec = {
        "model": family,
        "build": told,
        "input": {"seed": 1, "shape": list(image)},
        "arrays": {"out": "restored image", "FAM1": "output of submodule FAM1 (FAM)"},
    }
    arrays = {"out": np.zeros(out or image, np.float32), "FAM1": np.zeros(1, np.float32)}
    fixture = Fixture(family, "arrays", Path(family), spec, arrays)
    arguments = BuildArguments(fixture)
    built: Built = importlib.import_module(f"dehaze_bench.verify.families.{family}").build(fixture, arguments)
    arguments.finish()
    return built


def windows(network: nn.Module) -> set[int | None]:
    return {module.window for module in network.modules() if isinstance(module, LocalMean)}


def blocks_per_level(network: nn.Module) -> int:
    assert isinstance(network, ThreeScales)
    return len(network.encoder[1])


@pytest.mark.parametrize(
    ("family", "told", "expected"),
    [
        ("sfnet", {"mode": ["train", "Outdoor"], "num_res": 1}, {None}),
        ("sfnet", {"mode": ["test", "Indoor"], "num_res": 1}, {246}),
        ("sfnet", {"mode": ["test", "Outdoor"], "num_res": 1}, {210}),
        ("fsnet", {"num_res": 4}, {None}),
        ("fsnet", {"num_res": 4, "data": "OTS"}, {210}),
    ],
)
def test_windows_follow_the_build(family: str, told: dict[str, Any], expected: set[int | None]) -> None:
    assert windows(build(family, **told).network) == expected


@pytest.mark.parametrize(
    ("family", "told", "blocks"),
    [
        ("sfnet", {"mode": ["train", "Indoor"], "num_res": 2, "base": 16, "published": "num_res 16"}, 2),
        ("oknet", {"num_res": 3, "base": 8, "kernel": 5}, 3),
        ("irnext", {"num_res": 2, "base": 8}, 2),
        ("irnext", {}, 4),
        ("convir", {"version": "base", "data": "GTA5", "base": 8}, 8),
        ("convir", {"num_res": 3, "base": 8}, 3),
    ],
)
def test_sizes_follow_the_build(family: str, told: dict[str, Any], blocks: int) -> None:
    built = build(family, **told)
    assert blocks_per_level(built.network) == blocks
    assert built.taps["FAM1"].path == "fam1"


def test_parts_follow_the_build() -> None:
    square = build("irnext", (1, 16, 8, 8), inchannels=16, kernel_size=5, group=4).network
    assert isinstance(square, ModulatedFilter) and square.kernel == (5, 5) and square.groups == 4
    strip = build("convir", (1, 16, 8, 8), dim=16, kernel_size=5, dilation=2, group=4).network.strip_att.W_spatial_att
    assert isinstance(strip, ModulatedFilter) and strip.kernel == (5, 1) and strip.dilation == 2
    plain = build("convir", (1, 16, 8, 8), channels=16, data="ITS", filter=False).network
    assert isinstance(plain, ConvBlock) and isinstance(plain.main[1], nn.Identity)


def test_of_the_output_every_nth_row_and_column_is_compared() -> None:
    built = build("casdyfnet", out=(1, 3, 8, 8), factory="build_net()", base=8)
    assert built.call is not None and not built.network.eval().training
    assert built.call(*built.inputs)[0].shape[-2:] == (8, 8)
    with pytest.raises(UsageError, match="n-th row"):
        build("casdyfnet", out=(1, 3, 8, 5), factory="build_net()", base=8)


@pytest.mark.parametrize(
    ("family", "told", "message"),
    [
        ("sfnet", {"mode": ["test", "Underwater"]}, "mode"),
        ("sfnet", {"num_res": 2}, "mode"),
        ("fsnet", {"num_res": 4, "data": "Haze4K"}, "data"),
        ("convir", {"version": "huge"}, "version"),
        ("convir", {"version": "small", "num_res": 8}, "num_res=4"),
        ("convir", {"channels": 16, "data": "SOTS"}, "data"),
        ("casdyfnet", {"factory": "other()"}, "factory"),
        ("oknet", {"num_res": 1, "dilation": 2}, "does not understand build argument 'dilation'"),
    ],
)
def test_what_is_not_understood_is_an_error(family: str, told: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(family, **told)

"""The fixture of metric conventions: five image pairs, every convention, absolute tolerances."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.metrics import CONVENTIONS
from dehaze_bench.verify import fill
from dehaze_bench.verify.compare import Row, absolute_error, relative_error
from dehaze_bench.verify.fixture import BuildArguments, Fixture

_TARGET = re.compile(r"image\((\d+), \[1, 3, (\d+), (\d+)\]\)")
_RESTORED = re.compile(
    r"([\d.]+)\*image\((\d+)\) \+ ([\d.]+)\*image\((\d+)\) \+ ([\d.]+)\*\(image\((\d+)\) - ([\d.]+)\), "
    r"float32, not clamped"
)
_PAIR_ENTRIES = {"kind", "target", "restored", "why"}
_CONVENTION_ENTRIES = {"what", "used_by", "tolerance"}


def check_metrics(fixture: Fixture) -> list[Row]:
    """Return a row per pair and convention, and one per rebuilt pair that shows the rebuild itself."""
    build = BuildArguments(fixture)
    pairs, conventions = build.take("pairs"), build.take("conventions")
    build.finish()
    names, expected = list(conventions), fixture.array("out")
    if expected.shape != (len(fixture.field("input")["pairs"]), len(names)):
        raise UsageError(f"{fixture.path}: `out` has shape {expected.shape}, not pairs by conventions.")
    for name in names:
        if name not in CONVENTIONS:
            raise UsageError(f"{fixture.path}: convention '{name}' is not known. {nearest(name, CONVENTIONS)}")
        _refuse_unknown(fixture, f"convention {name}", conventions[name], _CONVENTION_ENTRIES)
    rows: list[Row] = []
    for pair, values in zip(fixture.field("input")["pairs"], expected, strict=True):
        _refuse_unknown(fixture, f"pair {pair}", pairs[pair], _PAIR_ENTRIES)
        restored_CHW, target_CHW = _read_pair(fixture, pair, pairs[pair])
        if f"{pair}_check" in fixture.arrays:
            rows.append(_check_rebuild(fixture, f"{pair}_check", restored_CHW))
        for name, value in zip(names, values, strict=True):
            ours = CONVENTIONS[name](restored_CHW, target_CHW)
            error = absolute_error(ours, float(value))
            tolerance = float(conventions[name]["tolerance"])
            rows.append(Row(fixture.name, f"{pair}/{name}", error, tolerance, measure="absolute"))
    return rows


def _read_pair(fixture: Fixture, pair: str, entry: dict[str, str]) -> tuple[Tensor, Tensor]:
    """Return (restored, target) as float32 (3, H, W): stored as they are, or rebuilt by formula."""
    if entry["kind"].startswith("stored"):
        return _to_image(fixture.array(f"{pair}_pred")), _to_image(fixture.array(f"{pair}_target"))
    target, restored = (
        _TARGET.fullmatch(entry.get("target", "")),
        _RESTORED.fullmatch(entry.get("restored", "")),
    )
    if entry["kind"] != "formula" or target is None or restored is None:
        raise UsageError(f"{fixture.path}: pair '{pair}' has a kind or formula that is not understood: {entry}.")
    shape = (1, 3, int(target[2]), int(target[3]))
    gain_1, seed_1, gain_2, seed_2, gain_3, seed_3, middle = restored.groups()
    # float32 arithmetic in the order written: NumPy keeps the type of an array times a Python number.
    restored_BCHW = (
        float(gain_1) * fill.image(int(seed_1), shape)
        + float(gain_2) * fill.image(int(seed_2), shape)
        + float(gain_3) * (fill.image(int(seed_3), shape) - float(middle))
    )
    return torch.from_numpy(restored_BCHW[0]), torch.from_numpy(fill.image(int(target[1]), shape)[0])


def _check_rebuild(fixture: Fixture, name: str, restored_CHW: Tensor) -> Row:
    """Compare the first 256 values (channels last) and the mean of a rebuilt image with those stored.

    The fixture calls them the target's; they are those of the restored image, to the bit.
    """
    restored_HWC = restored_CHW.permute(1, 2, 0).double().numpy()
    ours = np.append(restored_HWC.ravel()[:256], restored_HWC.mean())
    # Far above the rounding of a mean and far below what another seed or formula would give.
    return Row(fixture.name, name, relative_error(ours, fixture.array(name)), 1e-6)


def _to_image(stored_HWC: np.ndarray) -> Tensor:
    scale = 255.0 if stored_HWC.dtype == np.uint8 else 1.0
    image_HWC = stored_HWC.astype(np.float32) / np.float32(scale)
    return torch.from_numpy(np.ascontiguousarray(image_HWC.transpose(2, 0, 1)))


def _refuse_unknown(fixture: Fixture, what: str, entry: dict[str, object], known: set[str]) -> None:
    for name in entry.keys() - known:
        raise UsageError(f"{fixture.path}: the check of metrics does not understand entry '{name}' of {what}.")

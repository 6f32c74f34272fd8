"""Our arrays against the stored ones: the error, and whether it is within tolerance."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.verify.fixture import Fixture

# Arrays longer than this are stored as the first values of their flattening.
STORED = 4096


@dataclass(frozen=True)
class Row:
    """One comparison; `measure` says what `error` is: relative, absolute, or a number of steps of a scan."""

    fixture: str
    array: str
    error: float
    tolerance: float
    measure: str = "relative"
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


def compare_arrays(fixture: Fixture, ours: Mapping[str, Tensor | np.ndarray], given: Sequence[str] = ()) -> list[Row]:
    """Return one row per array of `ours`; a name may carry a remark, as in "out (reference)".

    Raises UsageError where the fixture stores an output that `ours` lacks: silence is not agreement. Arrays
    that the spec calls information only, and those `given` to a check beside its inputs, are left out.
    """
    answered = {name.split(" ")[0] for name in ours}
    for name in fixture.arrays:
        if name not in answered and name not in fixture.inputs and name not in given:
            if "information only" in fixture.describe(name):
                continue
            raise UsageError(f"{fixture.path}: the check of {fixture.model} does not compute array '{name}'.")
    return [compare_array(fixture, name, value) for name, value in ours.items()]


def compare_array(fixture: Fixture, name: str, ours: Tensor | np.ndarray) -> Row:
    """Return ||ours - theirs|| / ||theirs|| over the stored values; infinite where the shape is another."""
    stored = name.split(" ")[0]
    theirs = fixture.array(stored)
    value = ours.detach().cpu().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
    description = fixture.describe(stored)
    step = _stored_step(description)
    shape = _full_shape(description) if theirs.shape == (STORED,) or step > 1 else theirs.shape
    if shape is not None and value.shape != shape:
        note = f"shape {value.shape} instead of {shape}"
        return Row(fixture.name, name, math.inf, fixture.tolerance, note=note)
    if value.shape != theirs.shape:
        value = value.reshape(-1)[::step][: theirs.size].reshape(theirs.shape)
    return Row(fixture.name, name, relative_error(value, theirs), fixture.tolerance)


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return ||ours - theirs|| / ||theirs|| in float64; not divided where theirs is zero, inf for a nan."""
    difference = np.linalg.norm(ours.astype(np.float64).ravel() - theirs.astype(np.float64).ravel())
    scale = np.linalg.norm(theirs.astype(np.float64).ravel())
    error = float(difference / scale) if scale > 0 else float(difference)
    return error if math.isfinite(error) else math.inf


def absolute_error(ours: float, theirs: float) -> float:
    """Return |ours - theirs|; zero where both are nan or the same infinity, inf where only one is."""
    if ours == theirs or (math.isnan(ours) and math.isnan(theirs)):
        return 0.0
    error = abs(ours - theirs)
    return error if math.isfinite(error) else math.inf


def count_row(fixture: Fixture, num_parameters: int) -> Row:
    """Return the row that compares the number of parameters, to the unit."""
    theirs = fixture.field("parameters")
    note = "" if num_parameters == theirs else f"{num_parameters:,} instead of {theirs:,}"
    error = abs(num_parameters - theirs)
    return Row(fixture.name, "parameters", error, 0.0, measure="absolute", note=note)


def _stored_step(description: str) -> int:
    """Return n where a spec says that every n-th value is stored, else 1."""
    found = re.search(r"every (\d+)-th value", description)
    return int(found.group(1)) if found else 1


def _full_shape(description: str) -> tuple[int, ...] | None:
    """Return the shape that a spec states for a shortened array, None where it states none."""
    found = re.search(r"full shape \[([\d, ]+)\]", description)
    return tuple(int(size) for size in found.group(1).split(",")) if found else None

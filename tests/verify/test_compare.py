"""Errors and rows: the relative norm, shortened arrays, shapes, what is missing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from dehaze_bench.errors import UsageError
from dehaze_bench.verify.compare import absolute_error, compare_array, compare_arrays, relative_error
from dehaze_bench.verify.fixture import Fixture


def fixture(arrays: dict[str, np.ndarray], described: dict[str, str] | None = None) -> Fixture:
    spec = {"model": "m", "tolerance": 1e-3, "input": {"in_npz": ["x"]}, "arrays": described or {}}
    return Fixture("m", "arrays", Path("m"), spec, arrays)


def test_relative_error_by_hand() -> None:
    assert relative_error(np.array([3.0, 4.5]), np.array([3.0, 4.0])) == pytest.approx(0.1)
    assert relative_error(np.array([0.5]), np.array([0.0])) == 0.5
    assert relative_error(np.array([np.nan]), np.array([1.0])) == math.inf
    # Norms are taken in float64: in float32 this difference would vanish.
    assert relative_error(np.array([1.0 + 1e-9]), np.array([1.0])) == pytest.approx(1e-9, rel=1e-5)


def test_absolute_error_of_special_values() -> None:
    assert absolute_error(math.nan, math.nan) == 0
    assert absolute_error(math.inf, math.inf) == 0
    assert absolute_error(math.nan, 1.0) == math.inf
    assert absolute_error(math.inf, -math.inf) == math.inf
    assert absolute_error(2.0, 1.5) == 0.5


def test_a_row_fails_above_the_tolerance() -> None:
    theirs = np.ones(100)
    row = compare_array(fixture({"out": theirs}), "out", theirs + 2e-3)
    assert (row.ok, row.tolerance) == (False, 1e-3)
    assert row.error == pytest.approx(2e-3)
    assert compare_array(fixture({"out": theirs}), "out", theirs + 0.5e-3).ok


def test_a_long_array_is_compared_on_its_first_values() -> None:
    ours = np.random.default_rng(0).normal(size=(3, 5, 1000))
    described = {"out": "output; full shape [3, 5, 1000], first 4096 values of the C-order flattening"}
    stored = fixture({"out": ours.ravel()[:4096]}, described)
    assert compare_array(stored, "out", ours).error == 0
    changed = ours.copy()
    changed[0, 0, 7] += 1
    assert not compare_array(stored, "out", changed).ok
    row = compare_array(stored, "out", ours.transpose(1, 0, 2))
    assert (row.ok, row.note) == (False, "shape (5, 3, 1000) instead of (3, 5, 1000)")


def test_another_shape_fails_even_with_equal_values() -> None:
    row = compare_array(fixture({"out": np.zeros((2, 3))}), "out", np.zeros((3, 2)))
    assert (row.error, row.note) == (math.inf, "shape (3, 2) instead of (2, 3)")


def test_every_stored_output_must_be_answered() -> None:
    arrays = {"x": np.zeros(2), "out": np.zeros(2), "state": np.zeros(2)}
    with pytest.raises(UsageError, match="does not compute array 'state'"):
        compare_arrays(fixture(arrays), {"out": np.zeros(2)})
    assert len(compare_arrays(fixture(arrays, {"state": "information only"}), {"out": np.zeros(2)})) == 1
    assert len(compare_arrays(fixture(arrays), {"out": np.zeros(2)}, given=("state",))) == 1
    assert len(compare_arrays(fixture(arrays), {"out": arrays["out"], "state (auto)": arrays["state"]})) == 2


def test_an_answer_to_nothing_names_what_is_stored() -> None:
    with pytest.raises(UsageError, match=r"no array 'outt'.*'out'"):
        compare_array(fixture({"out": np.zeros(2)}), "outt", np.zeros(2))

"""The rules of rebuilt weights and images: statistics, special names, and values pinned by the golden fixtures."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from dehaze_bench.verify import fill


def test_a_tensor_depends_on_name_and_shape_only() -> None:
    assert np.array_equal(fill.tensor("a.weight", (3, 4)), fill.tensor("a.weight", [3, 4]))
    assert not np.array_equal(fill.tensor("a.weight", (3, 4)), fill.tensor("b.weight", (3, 4)))
    assert fill.tensor("a.weight", ()).shape == ()


@pytest.mark.parametrize(
    ("name", "shape", "mean", "spread"),
    [
        ("norm.weight", (20000,), 1.0, 0.1),
        ("norm.bias", (20000,), 0.0, 0.1),
        ("layer.dt_bias", (20000,), 0.0, 0.1),
        ("norm.running_mean", (20000,), 0.0, 0.1),
        ("norm.running_var", (20000,), 1.0 + 0.1 * np.sqrt(2 / np.pi), 0.1 * np.sqrt(1 - 2 / np.pi)),
        ("mixer.A_log", (200, 100), 0.5 * np.sqrt(2 / np.pi), 0.5 * np.sqrt(1 - 2 / np.pi)),
        ("mixer.A_b_log", (20000,), 0.5 * np.sqrt(2 / np.pi), 0.5 * np.sqrt(1 - 2 / np.pi)),
        ("conv.weight", (2000, 5, 2, 2), 0.0, 1 / np.sqrt(20)),
        ("table.bias", (200, 100), 0.0, 0.1),
    ],
)
def test_each_kind_of_tensor_has_its_statistics(name: str, shape: tuple[int, ...], mean: float, spread: float) -> None:
    values = fill.tensor(name, shape)
    assert values.dtype == np.float32
    assert values.mean() == pytest.approx(mean, abs=5 * spread / np.sqrt(values.size))
    assert values.std() == pytest.approx(spread, rel=0.05)


def test_counters_are_zero() -> None:
    assert fill.tensor("norm.num_batches_tracked", ()) == 0


def test_images_are_smooth_and_in_range() -> None:
    image = fill.image(7, (2, 3, 40, 50))
    assert image.dtype == np.float32
    assert image.shape == (2, 3, 40, 50)
    assert image.min() >= 0
    assert image.max() <= 1
    assert image.std() > 0.1
    assert np.abs(np.diff(image, axis=-1)).mean() < 0.1
    assert np.array_equal(image, fill.image(7, (2, 3, 40, 50)))
    assert not np.array_equal(image, fill.image(8, (2, 3, 40, 50)))


def test_values_are_those_of_the_fixtures_to_the_bit(shared: Path) -> None:
    source = importlib.util.spec_from_file_location("golden_fill", shared / "golden" / "fill.py")
    assert source is not None
    assert source.loader is not None
    theirs = importlib.util.module_from_spec(source)
    source.loader.exec_module(theirs)
    names = {
        "a.weight": (6, 5, 3),
        "a.bias": (9,),
        "b.bias": (4, 4),
        "A_logs": (8, 2),
        "n.running_var": (7,),
        "n.running_mean": (7,),
        "n.num_batches_tracked": (),
        "gate": (),
        "D": (11,),
    }
    for name, shape in names.items():
        assert np.array_equal(fill.tensor(name, shape), theirs.tensor(name, shape))
    assert np.array_equal(fill.image(5, (2, 3, 17, 23)), theirs.image(5, (2, 3, 17, 23)))

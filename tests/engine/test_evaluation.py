"""Evaluation: rows in order, means of rows, named errors."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from dehaze_bench.engine.evaluation import evaluate
from dehaze_bench.errors import JobError


@dataclass
class Pair:
    name: str
    hazy: Tensor
    clear: Tensor | None


class Mean:
    """A protocol that measures the mean absolute difference."""

    def prepare(self, hazy: Tensor, clear: Tensor) -> tuple[Tensor, Tensor]:
        return hazy[:, 1:], clear[:, 1:]

    def measure(self, restored: Tensor, clear: Tensor) -> dict[str, float]:
        return {"l1": float((restored - clear).abs().mean())}

    def judge(self, restored: Tensor) -> dict[str, float]:
        return {}


def pairs() -> list[Pair]:
    return [Pair(f"p{i}", torch.full((3, 5, 4 + i), i / 10), torch.zeros(3, 5, 4 + i)) for i in range(4)]


def test_rows_keep_the_order_and_images_weigh_the_same_whatever_their_size() -> None:
    found = evaluate(lambda image: image, pairs(), Mean())
    assert [name for name, _ in found.rows] == ["p0", "p1", "p2", "p3"]
    assert found.mean("l1") == pytest.approx(0.15)
    assert found.std("l1") == pytest.approx(0.1290994)


def test_the_protocol_crops_before_the_network() -> None:
    seen = []
    evaluate(lambda image: seen.append(image.shape) or image, pairs(), Mean())  # type: ignore[func-returns-value]
    assert seen[0] == (3, 4, 4)


def test_an_image_without_truth_has_a_row_without_values() -> None:
    found = evaluate(lambda image: image, [Pair("real", torch.zeros(3, 4, 4), None)], Mean())
    assert found.rows == [("real", {})]
    assert found.columns == [] and found.means == {} and found.clips == []


def test_what_judges_the_restored_image_alone_needs_no_truth() -> None:
    class Brightness(Mean):
        def judge(self, restored: Tensor) -> dict[str, float]:
            return {"light": float(restored.mean())}

    given = [Pair("real", torch.full((3, 4, 4), 0.25), None), Pair("more", torch.full((3, 4, 4), 0.75), None)]
    found = evaluate(lambda image: image, given, Brightness())
    assert found.columns == ["light"] and found.mean("light") == 0.5


def test_a_non_finite_restoration_is_named() -> None:
    with pytest.raises(JobError, match="non-finite values for 'p1'"):
        evaluate(lambda image: image * float("inf"), pairs()[1:2], Mean())

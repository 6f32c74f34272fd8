"""Scores without reference: a clear error without pyiqa, and the calls that are made where it is there.

pyiqa itself is not installed for the tests (it brings torchvision); the second half uses a stand-in with its interface.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.metrics import Protocol, no_reference

METRICS = {"psnr": "psnr_rgb_clamp"}


@pytest.mark.skipif(importlib.util.find_spec("pyiqa") is not None, reason="pyiqa is installed")
def test_without_pyiqa_the_error_says_what_to_do() -> None:
    with pytest.raises(
        UsageError, match=r"need pyiqa, which cannot be imported .*dehaze-bench\[iqa\].*leave protocol.no_ref"
    ):
        Protocol("mine", METRICS, no_reference=["niqe"])


def test_a_protocol_without_such_scores_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    protocol = Protocol("mine", METRICS)
    assert protocol.judge(torch.zeros(3, 4, 4)) == {}
    assert "pyiqa" not in protocol.describe()


def test_a_torchvision_of_another_torch_is_named(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyiqa.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "pyiqa", raising=False)
    with pytest.raises(UsageError, match=r"torchvision::nms does not exist.*built for another torch than"):
        Protocol("mine", METRICS, no_reference=["niqe"])


class Score:
    """What `pyiqa.create_metric` returns: batches (B, 3, H, W) in [0, 1] to one value each."""

    def __init__(self, lower_better: bool) -> None:
        self.lower_better = lower_better

    def __call__(self, image_BCHW: Tensor) -> Tensor:
        assert image_BCHW.shape[:2] == (1, 3) and image_BCHW.min() >= 0 and image_BCHW.max() <= 1
        return image_BCHW.mean((1, 2, 3))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = types.ModuleType("pyiqa")

    def create_metric(name: str, device: str) -> Score:
        if name == "musiq":
            raise OSError("no net")
        return Score(lower_better=name == "niqe")

    module.create_metric = create_metric  # type: ignore[attr-defined]
    module.list_models = lambda metric_mode: ["brisque", "clipiqa", "musiq", "niqe"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyiqa", module)
    no_reference._make.cache_clear()
    yield
    no_reference._make.cache_clear()


@pytest.mark.usefixtures("stand_in")
def test_scores_are_made_once_and_their_direction_is_known() -> None:
    protocol = Protocol("mine", METRICS, no_reference=["niqe", "clipiqa"])
    image = torch.full((3, 4, 4), 0.25)
    image[0, 0, 0] = 7.0
    assert protocol.judge(image) == pytest.approx({"niqe": 0.265625, "clipiqa": 0.265625})
    assert protocol.higher_is_better == {"psnr": True, "niqe": False, "clipiqa": True}
    assert "niqe, clipiqa of the restored image alone by pyiqa" in protocol.describe()


@pytest.mark.usefixtures("stand_in")
def test_unknown_scores_and_failing_downloads_are_named() -> None:
    with pytest.raises(UsageError, match=r"no score 'niqqe' that needs no reference. Did you mean 'niqe'"):
        Protocol("mine", METRICS, no_reference=["niqqe"])
    with pytest.raises(UsageError, match=r"cannot make the score 'musiq' \(OSError: no net\).*from the net"):
        Protocol("mine", METRICS, no_reference=["musiq"]).judge(torch.zeros(3, 4, 4))

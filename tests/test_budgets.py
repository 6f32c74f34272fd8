"""Widths for a budget: found once, kept for later processes, and never taken from a file that cannot be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from dehaze_bench import budgets, targets
from dehaze_bench.budgets import parse_amount, solve_width
from dehaze_bench.errors import UsageError

MATCH = {"params": "900"}


class Maker:
    """A network of width * width parameters; counts how often it was built."""

    def __init__(self) -> None:
        self.built = 0

    def __call__(self, width: float) -> nn.Module:
        self.built += 1
        return nn.Linear(round(width), round(width), bias=False)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEHAZE_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(budgets, "_solved", {})
    return tmp_path / "widths"


def test_an_answer_is_kept_for_the_next_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = Maker()
    width = solve_width(maker, MATCH, "a")
    assert round(width) == 30 and maker.built > 30
    (path,) = folder.iterdir()
    assert float(path.read_text()) == width
    monkeypatch.setattr(budgets, "_solved", {})
    again = Maker()
    assert solve_width(again, MATCH, "a") == width and again.built == 0
    solve_width(again, MATCH, "b")
    assert again.built == maker.built and len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("text", ["", "nan", "thirty", "-4", "1e9"])
def test_a_damaged_file_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    width = solve_width(Maker(), MATCH, "a")
    (path,) = folder.iterdir()
    path.write_text(text)
    monkeypatch.setattr(budgets, "_solved", {})
    assert solve_width(Maker(), MATCH, "a") == width
    assert float(path.read_text()) == width


def test_other_code_asks_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solve_width(Maker(), MATCH, "a")
    monkeypatch.setattr(budgets, "_solved", {})
    monkeypatch.setattr(budgets, "_code", lambda: "newer")
    maker = Maker()
    solve_width(maker, MATCH, "a")
    assert maker.built > 0


def test_a_folder_that_cannot_be_written_costs_only_time(folder: Path) -> None:
    folder.write_text("in the way")
    assert round(solve_width(Maker(), MATCH, "a")) == 30


def test_code_of_others_is_asked_each_time(folder: Path) -> None:
    maker = Maker()
    for _ in range(2):
        solve_width(maker, MATCH, None)
    assert maker.built > 60 and not folder.exists()
    assert targets.are_own({"_target_": "dehaze_bench.models.unet.UNet", "mixer": {"_target_": "torch.nn.Linear"}})
    assert not targets.are_own(({"mixer": [{"_target_": "mine.Mixer"}]},))


def test_a_failure_is_not_kept(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"params=1050 cannot be met within 2%"):
        solve_width(lambda width: nn.Linear(30 if width < 31 else 40, 30, bias=False), {"params": "1050"}, "a")
    assert not folder.exists()


def test_amounts() -> None:
    assert [parse_amount(text, "k") for text in ("581", "250k", "1.5M", "4.2 G", 7)] == [581, 250e3, 1.5e6, 4.2e9, 7]
    for wrong in ("", "abc", "-3", "0", "1.2.3M"):
        with pytest.raises(UsageError, match="is no amount"):
            parse_amount(wrong, "model.match.params")

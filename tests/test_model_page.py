"""docs/models.md lists every model as its file describes it, with the numbers that a run would have."""

from __future__ import annotations

from pathlib import Path

import pytest

from dehaze_bench import model_page
from dehaze_bench.registry import list_choices

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("group", ["model", "model/backbone"])
def test_every_file_has_its_line(group: str) -> None:
    for name, text in list_choices(group).items():
        assert f"| `{name}` | {text} |" in PAGE, f"{group}/{name}: run `make docs`"


@pytest.mark.parametrize("name", ["aodnet", "dcp", "gunet_t", "unet", "mair_dehaze", "rsdehamba"])
def test_numbers_are_current(name: str) -> None:
    row = model_page._row(name, list_choices("model")[name], [f"model={name}"], "model")
    assert row in PAGE, "run `make docs`"


def test_backbones_are_measured_as_restorers() -> None:
    text = list_choices("model/backbone")["vrwkv_t"]
    row = model_page._row("vrwkv_t", text, ["model=pyramid", "model/backbone=vrwkv_t"], "model.backbone")
    assert row in PAGE, "run `make docs`"

"""A run that searches directions: what it writes and prints, and that the network it found can be trained."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from dehaze_bench import build, cli
from dehaze_bench.compose import compose_run
from dehaze_bench.errors import UsageError
from dehaze_bench.models.backbones.localvim import LocalVim
from dehaze_bench.nn.direction_search import DirectionSearch, read_searches
from dehaze_bench.run import DIRECTIONS
from dehaze_bench.scans.windows import CANDIDATES
from tests import tiny

NETWORKS = {
    "localvmamba_search": ("model.backbone.depths=[1,1]", "model.backbone.dims=8", "model.backbone.d_state=2"),
    "localvim_search": ("model.backbone.depth=2", "model.backbone.dim=8", "model.backbone.patch=8"),
}


def test_the_weights_of_a_search_are_read_layer_by_layer() -> None:
    network = LocalVim(dim=8, depth=2, directions=None, num_classes=0)
    with torch.no_grad():
        for number, module in enumerate(m for m in network.modules() if isinstance(m, DirectionSearch)):
            module.weights.copy_(torch.arange(8.0) if number else -torch.arange(8.0))
    first, second = read_searches(network)
    assert first.directions == list(CANDIDATES[:4]) and second.directions == list(CANDIDATES[4:])
    assert [first.directions, second.directions] == network.best_directions()
    assert list(second.weights) == list(CANDIDATES) and sum(second.weights.values()) == pytest.approx(1)
    assert second.weights["w7_flip"] == pytest.approx(float(torch.arange(8.0).softmax(0)[-1]))
    assert isinstance(network.get_submodule(second.layer), DirectionSearch)
    assert [len(each.directions) for each in read_searches(network, keep=2)] == [2, 2]
    assert read_searches(LocalVim(dim=8, depth=1, num_classes=0)) == []


@pytest.mark.parametrize("backbone", NETWORKS)
def test_a_search_ends_with_the_override_of_what_it_found(
    backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = ("model=pyramid", f"model/backbone={backbone}", "model.dim=8", "model.detail=2", *NETWORKS[backbone])
    arguments = tiny.overrides(tmp_path, *network, *tiny.TRAINING, "train.steps=1")
    shown = []
    for _ in range(2):  # the second time it is done already, and says the same
        assert cli.run(["train", *arguments]) == 0
        shown.append(capsys.readouterr().out.splitlines()[-1])
    assert shown[0] == shown[1]
    override = re.fullmatch(r"found (model\.backbone\.directions=\S+)", shown[0])
    assert override is not None
    (folder,) = (tmp_path / "runs").iterdir()
    written = json.loads((folder / DIRECTIONS).read_text())
    assert written["override"] == override[1]
    assert [len(layer["directions"]) for layer in written["layers"]] == [4, 4]

    found = build.model(compose_run([*arguments, override[1]]).cfg)
    searched = build.model(compose_run(arguments).cfg)
    assert len(read_searches(searched)) == 2 and read_searches(found) == []
    assert cli.run(["train", *arguments, override[1]]) == 0
    assert "found" not in capsys.readouterr().out
    assert list((tmp_path / "runs").glob(f"*/{DIRECTIONS}")) == [folder / DIRECTIONS]


def test_a_list_for_another_number_of_layers_is_named() -> None:
    overrides = ["model=pyramid", "model/backbone=localvim_search", "model.backbone.depth=3"]
    with pytest.raises(UsageError, match="3 layers needs as many lists"):
        build.check(compose_run([*overrides, "model.backbone.directions=[[h,v],[h,w2]]"]).cfg)

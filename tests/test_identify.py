"""Published files say which model they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dehaze_bench import source
from dehaze_bench.errors import UsageError
from dehaze_bench.identify import identify
from dehaze_bench.models.restorers.aodnet import AODNet
from dehaze_bench.registry import list_choices
from dehaze_bench.weights import save_own
from dehaze_bench.weights.keymaps import NAMES
from dehaze_bench.weights.published import PROTOCOLS


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """AOD-Net's weights under their published names, in a container."""
    state = {name.replace("conv", "e_conv"): tensor for name, tensor in AODNet().state_dict().items()}
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "found.pth")
    return tmp_path / "found.pth"


def test_a_file_is_recognised_by_its_tensors(published: Path) -> None:
    found = identify(published)
    assert (found.model, found.num_parameters) == ("aodnet", 1761)
    assert f"{published}: this is model=aodnet, 1,761 parameters" in found.sentence(published)


def test_an_evaluation_takes_the_model_of_its_weights(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    composed = source.compose_for([f"weights={published}", "testset=photos"], None)
    assert composed.choices["model"] == "aodnet"
    assert "this is model=aodnet" in capsys.readouterr().err


def test_the_protocol_of_the_paper_is_the_default(
    published: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PROTOCOLS, "aodnet", "dehazeformer")
    for given in ([], ["model=aodnet"]):
        assert source.compose_for([f"weights={published}", *given], None).choices["protocol"] == "dehazeformer"
        assert bool(capsys.readouterr().err) is not bool(given)
    asked = source.compose_for([f"weights={published}", "protocol=full_y"], None)
    assert asked.choices["protocol"] == "full_y"


def test_our_own_file_is_left_to_its_own_loader(tmp_path: Path) -> None:
    save_own(AODNet().state_dict(), tmp_path / "own.safetensors", {"config": "{}"})
    composed = source.compose_for([f"weights={tmp_path / 'own.safetensors'}", "model=identity"], None)
    assert composed.choices["model"] == "identity"


def test_a_file_that_is_no_model_names_the_nearest(tmp_path: Path) -> None:
    state = {name.replace("conv", "e_conv"): tensor for name, tensor in AODNet().state_dict().items()}
    state["e_conv3.weight"] = torch.zeros(3, 6, 7, 7)
    torch.save(state, tmp_path / "near.pth")
    with pytest.raises(UsageError, match=r"fits no model .*model=NAME.*nearest is aodnet.*shape: conv3\.weight"):
        identify(tmp_path / "near.pth")


@pytest.mark.slow
def test_a_file_of_something_else_fits_none(tmp_path: Path) -> None:
    torch.save({"odd": torch.zeros(2)}, tmp_path / "odd.pth")
    with pytest.raises(UsageError, match=r"model=NAME\.$"):
        identify(tmp_path / "odd.pth")


def test_protocols_of_papers_exist() -> None:
    known = list_choices("protocol")
    assert all(protocol in known for protocol in PROTOCOLS.values())


def test_protocols_are_of_families_that_exist() -> None:
    missing = {"aecrnet", "dehamer"}  # measured like that, not built here
    assert PROTOCOLS.keys() - set(NAMES) <= missing

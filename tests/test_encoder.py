"""Pretrained encoders: what is loaded, what a run is known by, what cannot be is named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dehaze_bench import build, cli, config, run
from dehaze_bench.compose import compose_run
from dehaze_bench.errors import UsageError
from dehaze_bench.models.backbones.resnet import ResNet
from dehaze_bench.registry import list_choices
from dehaze_bench.weights.keymaps import NAMES, family_of
from tests import tiny
from tests.models.backbones.building import backbone

NETWORK = (
    "model=pyramid",
    "model/backbone=resnet50",
    "model.backbone.depths=[1,1,1,1]",
    "model.dim=8",
    "model.detail=2",
)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Weights as they are published: with a classifier, here of seven classes, under `model`."""
    torch.manual_seed(1)
    path = tmp_path / "weights" / "resnet.pth"
    path.parent.mkdir()
    torch.save({"model": ResNet((1, 1, 1, 1), num_classes=7).state_dict()}, path)
    return path


def overrides(path: Path, *more: str) -> list[str]:
    return [*NETWORK, f"model.encoder_weights={path}", *more]


def test_everything_but_the_classifier_is_loaded(published: Path) -> None:
    cfg = compose_run(overrides(published)).cfg
    build.check(cfg)
    network = build.model(cfg)
    build.load_encoder(cfg, network)
    theirs = torch.load(published, weights_only=True)["model"]
    ours: dict[str, Tensor] = network.get_submodule("backbone").state_dict()
    assert set(theirs) - set(ours) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_a_run_is_known_by_the_content_of_the_file(published: Path) -> None:
    def identity(*more: str) -> str:
        composed = compose_run(more)
        return config.identify(config.scientific(composed.cfg), composed.choices).name

    moved = published.with_name("elsewhere.pth")
    moved.write_bytes(published.read_bytes())
    first, without = identity(*overrides(published)), identity(*NETWORK)
    assert first == identity(*overrides(moved)) != without
    torch.save({"model": ResNet((1, 1, 1, 1)).state_dict()}, moved)
    assert identity(*overrides(moved)) != first
    assert first.startswith("pyramid-resnet50-deadleaves-")


def test_a_run_records_what_it_started_from_and_needs_it_no_more(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = hashlib.sha256(published.read_bytes()).hexdigest()
    line = tiny.overrides(tmp_path, *overrides(published), "train.steps=1", "train.batch=2", "train.crop=32")
    outcome = run.train(compose_run(line))
    assert outcome.record.config["model"]["encoder_sha256"] == digest
    published.unlink()
    again = ["protocol=full_y", *(text for text in tiny.overrides(tmp_path) if text.startswith(("paths", "testset")))]
    assert cli.run(["eval", f"run={outcome.record.id}", *again, "track=off"]) == 0, capsys.readouterr().err


def test_weights_that_do_not_fit_are_named(published: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"layer4\.1"):
        build.check(compose_run(overrides(published, "model.backbone.depths=[1,1,1,2]")).cfg)
    with pytest.raises(UsageError, match="nowhere"):
        compose_run(overrides(tmp_path / "nowhere.pth"))
    with pytest.raises(UsageError, match="model=pyramid"):
        build.check(compose_run(["model=unet", f"+model.encoder_weights={published}"]).cfg)
    torch.save([1, 2], tmp_path / "odd.pth")
    with pytest.raises(UsageError, match="no state dict"):
        build.check(compose_run(overrides(tmp_path / "odd.pth")).cfg)


@pytest.mark.parametrize(
    "name", [name for name in list_choices("model/backbone") if name.endswith(("_t", "_ti", "l1"))]
)
def test_a_classifier_is_what_a_network_has_more_than_its_encoder(name: str) -> None:
    """The names that are left out when an encoder is loaded; nothing else may depend on there being a head."""
    whole, encoder = backbone(name), backbone(name, num_classes=0)
    assert family_of(encoder) in NAMES
    assert set(encoder.state_dict()) < set(whole.state_dict())
    left_out = set(whole.state_dict()) - set(encoder.state_dict())
    assert all(part in name for name in left_out for part in ["head"]), left_out
    shapes = {key: tensor.shape for key, tensor in whole.state_dict().items()}
    assert all(tensor.shape == shapes[key] for key, tensor in encoder.state_dict().items())

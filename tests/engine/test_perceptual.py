"""Losses on the features of a classifier."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dehaze_bench import build
from dehaze_bench.compose import compose_run, identify_run
from dehaze_bench.engine.perceptual import BLOCKS, L1Contrastive, SmoothL1Perceptual, _layers
from dehaze_bench.errors import UsageError


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    found = {}
    for name, blocks in BLOCKS.items():
        state = nn.Sequential(*_layers(blocks)).state_dict()
        found[name] = tmp_path_factory.mktemp("vgg") / f"{name}.pth"
        torch.save({f"features.{key}": tensor for key, tensor in state.items()} | {"classifier.0.bias": torch.zeros(1)},
                   found[name])  # fmt: skip
    return found


def draw() -> tuple[Tensor, Tensor, Tensor]:
    restored, clear, hazy = torch.rand(3, 2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return restored.requires_grad_(), clear, hazy


def test_the_layers_are_numbered_as_in_torchvision() -> None:
    layers = _layers(BLOCKS["vgg16"])
    assert [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)] == [4, 9, 16, 23]
    assert all(isinstance(layers[i], nn.ReLU) for i in (3, 8, 15))
    layers = _layers(BLOCKS["vgg19"])
    assert [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)] == [4, 9, 18, 27]
    assert all(isinstance(layers[i], nn.ReLU) for i in (1, 6, 11, 20, 29))


def test_contrast_grows_away_from_the_haze(weights: dict[str, Path]) -> None:
    loss = L1Contrastive(str(weights["vgg19"]))
    restored, clear, hazy = draw()
    value = loss(restored, clear, hazy)
    value.backward()
    assert restored.grad is not None
    assert restored.grad.isfinite().all()
    assert loss(clear, clear, hazy).item() == pytest.approx(0.0, abs=1e-6)
    features = loss.network
    expected = (restored - clear).abs().mean()
    for share, a, b, c in zip(loss.shares, features(restored), features(clear), features(hazy), strict=True):
        expected = expected + 0.1 * share * (a - b).abs().mean() / ((a - c).abs().mean() + 1e-7)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    near_haze = loss(hazy + 1e-3, clear, hazy)
    assert near_haze > value
    with pytest.raises(UsageError, match="hazy image"):
        loss(restored, clear)


def test_perceptual_term_is_a_mean_over_layers(weights: dict[str, Path]) -> None:
    loss = SmoothL1Perceptual(str(weights["vgg16"]))
    restored, clear, hazy = draw()
    terms = [(a - b).square().mean() for a, b in zip(loss.network(restored), loss.network(clear), strict=True)]
    assert [a.shape[1] for a in loss.network(clear)] == [64, 128, 256]
    expected = loss.pixels(restored, clear) + 0.04 * sum(terms) / 3
    assert loss(restored, clear, hazy).item() == pytest.approx(expected.item(), rel=1e-5)


def test_missing_and_wrong_files_are_one_error(weights: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"loss\.features=FILE"):
        L1Contrastive()
    with pytest.raises(UsageError, match=r"nowhere\.pth is not there"):
        L1Contrastive(str(tmp_path / "nowhere.pth"))
    with pytest.raises(UsageError, match=r"lacks features\.16\.weight"):
        L1Contrastive(str(weights["vgg16"]))
    (tmp_path / "odd.pth").write_bytes(b"odd")
    with pytest.raises(UsageError, match="cannot be read"):
        L1Contrastive(str(tmp_path / "odd.pth"))
    with pytest.raises(UsageError, match=r"loss\.features=FILE"):
        build.loss(compose_run(["loss=l1_contrastive"]).cfg)


def test_the_file_counts_for_the_identity_and_its_place_does_not(weights: dict[str, Path], tmp_path: Path) -> None:
    def run(path: Path) -> str:
        composed = compose_run(["loss=l1_contrastive", f"loss.features={path}"])
        assert isinstance(build.loss(composed.cfg), L1Contrastive) == ("vgg16" not in path.name)
        return identify_run(composed).id

    copied = tmp_path / "copy.pth"
    copied.write_bytes(weights["vgg19"].read_bytes())
    assert run(weights["vgg19"]) == run(copied)
    other = torch.load(copied)
    other["features.0.bias"] += 1
    torch.save(other, copied)
    assert run(weights["vgg19"]) != run(copied)

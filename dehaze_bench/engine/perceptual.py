"""Losses on the features of an ImageNet classifier, whose weights come from a file that the user names.

Shapes: B batch, C channel, H height, W width. The weights are those of torchvision's vgg16 and vgg19 (tensors
`features.N.weight`, `features.N.bias`); nothing is fetched. As in the published code, images enter in [0, 1] without
ImageNet's mean and deviation.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dehaze_bench.engine.losses import L1, SmoothL1
from dehaze_bench.errors import UsageError

# Convolutions per block; every block begins with a 2x2 maximum but the first. Layers are numbered as in torchvision.
BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


class Features(nn.Module):
    """Outputs of some layers of VGG (arXiv 1409.1556), frozen; it moves to the device of its input."""

    def __init__(self, architecture: str, layers: Iterable[int], path: str | None) -> None:
        super().__init__()
        self.taps = tuple(layers)
        self.layers = nn.Sequential(*_layers(BLOCKS[architecture])[: max(self.taps) + 1])
        self.layers.load_state_dict(_read(architecture, path, self.layers.state_dict()))
        self.requires_grad_(False).eval()

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return the features at the chosen layers, in order."""
        if next(self.parameters()).device != image_BCHW.device:
            self.to(image_BCHW.device)
        found, x_BCHW = [], image_BCHW.float()
        for index, layer in enumerate(self.layers):
            x_BCHW = layer(x_BCHW)
            if index in self.taps:
                found.append(x_BCHW)
        return found


class SmoothL1Perceptual:
    """Smooth L1 plus `weight` times the mean squared difference of VGG16 features (relu1_2, relu2_2, relu3_3).

    GridDehazeNet (arXiv 1908.03245, section 3.5), weight 0.04: the mean over the three layers.
    """

    def __init__(self, features: str | None = None, weight: float = 0.04) -> None:
        self.weight = _check(weight)
        self.pixels = SmoothL1()
        self.network = Features("vgg16", (3, 8, 15), features)

    def __call__(self, restored_BCHW: Tensor, clear_BCHW: Tensor, hazy_BCHW: Tensor | None = None) -> Tensor:
        with torch.autocast(restored_BCHW.device.type, enabled=False):
            ours = self.network(restored_BCHW)
            with torch.no_grad():
                theirs = self.network(clear_BCHW)
            terms = [F.mse_loss(a, b) for a, b in zip(ours, theirs, strict=True)]
            return self.pixels(restored_BCHW, clear_BCHW) + self.weight * torch.stack(terms).mean()


class L1Contrastive:
    """L1 plus `weight` times sum w_i |f_i(restored) - f_i(clear)| / |f_i(restored) - f_i(hazy)| over VGG19 features.

    AECR-Net (arXiv 2104.09367, equation 4), DEA-Net: relu1_1 to relu5_1 with w = 1/32, 1/16, 1/8, 1/4, 1, weight 0.1.
    The hazy image is what the restored one is pushed away from.
    """

    def __init__(self, features: str | None = None, weight: float = 0.1) -> None:
        self.weight = _check(weight)
        self.pixels = L1()
        self.network = Features("vgg19", (1, 6, 11, 20, 29), features)
        self.shares = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)

    def __call__(self, restored_BCHW: Tensor, clear_BCHW: Tensor, hazy_BCHW: Tensor | None = None) -> Tensor:
        if hazy_BCHW is None:
            raise UsageError("A contrastive loss needs the hazy image besides the restored and the clear one.")
        with torch.autocast(restored_BCHW.device.type, enabled=False):
            ours = self.network(restored_BCHW)
            with torch.no_grad():
                towards, away = self.network(clear_BCHW), self.network(hazy_BCHW)
            terms = [
                share * F.l1_loss(a, positive) / (F.l1_loss(a, negative) + 1e-7)
                for share, a, positive, negative in zip(self.shares, ours, towards, away, strict=True)
            ]
            return self.pixels(restored_BCHW, clear_BCHW) + self.weight * torch.stack(terms).sum()


def _layers(blocks: tuple[int, ...]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for count, width in zip(blocks, WIDTHS, strict=True):
        if layers:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return layers


def _read(architecture: str, path: str | None, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the file that the layers need."""
    remedy = f"give torchvision's weights of {architecture}, loss.features=FILE, or choose a loss without features"
    if path is None:
        raise UsageError(f"This loss compares features of {architecture}: {remedy}.")
    if not Path(path).is_file():
        raise UsageError(f"loss.features={path} is not there: {remedy}.")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise UsageError(f"loss.features={path} cannot be read ({str(error).splitlines()[0]}): {remedy}.") from None
    names = {name: f"features.{name}" for name in wanted}
    for name, theirs in names.items():
        if theirs not in stored or stored[theirs].shape != wanted[name].shape:
            raise UsageError(f"loss.features={path} lacks {theirs} of shape {tuple(wanted[name].shape)}: {remedy}.")
    return {name: stored[theirs] for name, theirs in names.items()}


def _check(weight: float) -> float:
    if weight < 0:
        raise UsageError(f"loss.weight={weight} would reward a difference of features: use 0 or more.")
    return weight

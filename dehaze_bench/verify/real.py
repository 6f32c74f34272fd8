"""Published weights on real pairs: what `expected.json` says against our network, metrics and decoder.

Weights and images are not part of a fixture; they lie in a folder of samples and are recognised by their
sha256. Shapes: C channel, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dehaze_bench.data.pairs import read_image, to_tensor
from dehaze_bench.digest import hash_file
from dehaze_bench.errors import UsageError, nearest
from dehaze_bench.metrics import CONVENTIONS
from dehaze_bench.models.restorers.aodnet import AODNet
from dehaze_bench.models.restorers.gcanet import GCANet
from dehaze_bench.verify.compare import Row, absolute_error
from dehaze_bench.verify.fixture import Fixture
from dehaze_bench.weights import load_published


@dataclass(frozen=True)
class Published:
    """A network whose published weights are checked, and how its fixture describes the way to use it."""

    build: Callable[[], nn.Module]
    pipeline: str


NETWORKS = {
    "real_aodnet": Published(AODNet, "image/255 -> network -> float output, not clamped"),
    "real_gcanet": Published(
        GCANet,
        "official test script: 255-scale image plus edge channel, minus 128 -> residual; image + residual, rounded, "
        "clamped to 0..255; scored as that integer image / 255",
    ),
}
_ENTRIES = {"model", "source", "licence", "weights", "pipeline", "conventions", "decoder", "images"}
_ENTRIES |= {"means_over_images", "tolerance", "notes"}
_IMAGE_ENTRIES = {"hazy", "hazy_sha256", "clear", "clear_sha256", "clear_crop_px_per_side", "size", "values"}
_IMAGE_ENTRIES |= {"hazy_psnr_rgb", "hazy_ssim_pooled256", "output_mean", "output_std", "output_min_max"}
_IMAGE_ENTRIES |= {"output_pixels"}


def check_real(fixture: Fixture, samples: Path | None) -> list[Row]:
    """Return rows per image (conventions, sampled pixels, statistics of the output), then the means."""
    if fixture.model not in NETWORKS:
        raise UsageError(f"{fixture.path}: '{fixture.model}' is not known. {nearest(fixture.model, NETWORKS)}")
    _refuse_unknown(fixture, fixture.spec, _ENTRIES)
    if samples is None:
        raise UsageError(f"{fixture.path} needs published weights and real images: give their folder, --samples DIR.")
    published = NETWORKS[fixture.model]
    if not fixture.field("pipeline").startswith(published.pipeline):
        raise UsageError(f"{fixture.path}: the pipeline is not '{published.pipeline}': {fixture.field('pipeline')}")
    tolerances = fixture.field("tolerance")
    model = published.build().eval()
    weights = fixture.field("weights")
    load_published(model, _sample(samples, weights["file"], weights["sha256"]))
    rows: list[Row] = []
    groups: dict[str, dict[str, list[float]]] = {}
    for name, entry in fixture.field("images").items():
        _refuse_unknown(fixture, entry, _IMAGE_ENTRIES)
        hazy_CHW = to_tensor(read_image(_sample(samples, entry["hazy"], entry["hazy_sha256"])))
        clear_CHW = to_tensor(read_image(_sample(samples, entry["clear"], entry["clear_sha256"])))
        crop = entry["clear_crop_px_per_side"]
        clear_CHW = clear_CHW[:, crop : clear_CHW.shape[1] - crop, crop : clear_CHW.shape[2] - crop]
        with torch.inference_mode():
            restored_CHW = model(hazy_CHW[None])[0]
        columns = groups.setdefault(name.split("/")[0], {})
        for convention, expected in entry["values"].items():
            value = _measure(fixture, convention, restored_CHW, clear_CHW)
            columns.setdefault(convention, []).append(value)
            rows.append(_value_row(fixture, f"{name}/{convention}", convention, value, expected))
        for field, convention in (
            ("hazy_psnr_rgb", "psnr_rgb_clamp"),
            ("hazy_ssim_pooled256", "ssim_pooled256"),
        ):
            value = _measure(fixture, convention, hazy_CHW, clear_CHW)
            rows.append(_value_row(fixture, f"{name}/{field}", convention, value, entry[field]))
        for field, error in _output_errors(restored_CHW, entry).items():
            tolerance = float(tolerances["output_pixels"])
            rows.append(Row(fixture.name, f"{name}/{field}", error, tolerance, measure="absolute"))
    for group, means in fixture.field("means_over_images").items():
        for convention, expected in means.items():
            mean = float(np.mean(groups[group][convention]))
            rows.append(_value_row(fixture, f"mean of {group}/{convention}", convention, mean, expected))
    return rows


def _measure(fixture: Fixture, convention: str, restored_CHW: Tensor, clear_CHW: Tensor) -> float:
    if convention not in CONVENTIONS:
        raise UsageError(f"{fixture.path}: convention '{convention}' is not known. {nearest(convention, CONVENTIONS)}")
    return CONVENTIONS[convention](restored_CHW, clear_CHW)


def _value_row(fixture: Fixture, name: str, convention: str, value: float, expected: float) -> Row:
    kind = {"psnr": "psnr (dB)", "ssim": "ssim", "ciede2000": "ciede2000"}[convention.split("_")[0]]
    tolerance = float(fixture.field("tolerance")[kind])
    return Row(fixture.name, name, absolute_error(value, expected), tolerance, measure="absolute")


def _output_errors(restored_CHW: Tensor, entry: dict[str, Any]) -> dict[str, float]:
    """Return the largest absolute error of the sampled pixels and of each statistic of the output."""
    double_CHW = restored_CHW.double()
    samples = [(int(pixel[0]), int(pixel[1]), pixel[2:]) for pixel in entry["output_pixels"]]
    return {
        "output_pixels": max(
            float((double_CHW[:, y, x] - torch.tensor(rgb, dtype=torch.float64)).abs().max()) for y, x, rgb in samples
        ),
        "output_mean": max(
            absolute_error(float(ours), theirs)
            for ours, theirs in zip(double_CHW.mean(dim=(1, 2)), entry["output_mean"], strict=True)
        ),
        "output_std": absolute_error(float(double_CHW.std(correction=0)), entry["output_std"]),
        "output_min_max": max(
            absolute_error(float(ours), theirs)
            for ours, theirs in zip(double_CHW.aminmax(), entry["output_min_max"], strict=True)
        ),
    }


def _sample(samples: Path, relative: str, sha256: str) -> Path:
    path = samples / relative
    if not path.is_file():
        raise UsageError(f"{relative} is not in the samples at {samples}: give the folder that has it, --samples DIR.")
    if hash_file(path) != sha256:
        raise UsageError(
            f"{path} has another sha256 than the fixture was made with ({sha256[:12]}...): fetch it again."
        )
    return path


def _refuse_unknown(fixture: Fixture, entry: dict[str, Any], known: set[str]) -> None:
    for name in entry.keys() - known:
        raise UsageError(f"{fixture.path}: the check of real images does not understand entry '{name}'.")

"""Dark channel prior against its golden fixture, a committed output, and the model it inverts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from dehaze_bench.errors import UsageError
from dehaze_bench.models.restorers.dcp import DarkChannelPrior

PRESET = Path(__file__).parents[2] / "conf" / "model" / "dcp.yaml"
TOLERANCE = 1e-5  # relative norm, as the fixture says


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "dcp" / "out.npz"))


@pytest.fixture(scope="module")
def hazy_BCHW(arrays: dict[str, np.ndarray]) -> Tensor:
    return torch.from_numpy(arrays["image"]).permute(2, 0, 1)[None] / 255


def relative_error(ours: Tensor, theirs: np.ndarray) -> float:
    """Return ||ours - theirs|| / ||theirs|| for one image; theirs is HWC, HW or C."""
    array = ours[0].squeeze(0).numpy()
    array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    assert array.shape == theirs.shape
    return float(np.linalg.norm(array - theirs) / np.linalg.norm(theirs))


def test_paper_form_equals_the_fixture(arrays: dict[str, np.ndarray], hazy_BCHW: Tensor) -> None:
    model = instantiate(OmegaConf.load(PRESET))
    steps = model.estimate(hazy_BCHW)
    errors = {name: relative_error(steps[name], arrays[name]) for name in ("dark", "A", "t_raw", "t")}
    errors["out"] = relative_error(model(hazy_BCHW), arrays["out"])
    assert max(errors.values()) < TOLERANCE, errors
    assert model(hazy_BCHW).dtype == torch.float32


def test_repository_form_equals_the_fixture(arrays: dict[str, np.ndarray], hazy_BCHW: Tensor) -> None:
    model = DarkChannelPrior(form="repository", guided_eps=1e-4)
    steps = model.estimate(hazy_BCHW, torch.from_numpy(arrays["hz_A"])[None])
    errors = {name: relative_error(steps[name], arrays[f"hz_{name}"]) for name in ("t_raw", "t", "J")}
    assert max(errors.values()) < TOLERANCE, errors


def test_repository_light_sums_one_colour_too_few() -> None:
    # Distinct dark values, so nothing depends on sorting: 3 pixels of 3,000, the darkest of them left out.
    hazy = torch.linspace(0.1, 0.9, 3000, dtype=torch.float64).reshape(1, 1, 50, 60).expand(1, 3, 50, 60)
    model = DarkChannelPrior(patch=1, form="repository")
    light_BC = model.atmospheric_light(hazy, model.dark_channel(hazy))
    expected = float(hazy.flatten()[2998] + hazy.flatten()[2999]) / 3
    torch.testing.assert_close(light_BC, torch.full((1, 3), expected, dtype=torch.float64))
    with pytest.raises(UsageError, match="1900 pixels; use form=paper"):
        model(torch.rand(1, 3, 38, 50))


def test_repository_form_equals_its_committed_output(shared: Path) -> None:
    folder = shared / "samples" / "hazy_only" / "image_dehaze"
    hazy, published = (np.asarray(Image.open(folder / name).convert("RGB")) for name in ("15.png", "J.png"))
    hazy_BCHW = torch.from_numpy(hazy.copy()).permute(2, 0, 1)[None].double() / 255
    # That output was made by a revision which found the first pixel 239 times among 240.
    light_BC = hazy_BCHW[:, :, 0, 0] * 239 / 240
    model = DarkChannelPrior(form="repository", guided_eps=1e-4)
    restored = model.estimate(hazy_BCHW, light_BC)["J"][0].permute(1, 2, 0)
    levels = (restored.clamp(0, 1) * 255).round().numpy().astype(np.uint8)
    np.testing.assert_array_equal(levels, published)


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (90, 33)])
def test_paper_form_takes_any_size_and_batches_do_not_mix(size: tuple[int, int]) -> None:
    model = DarkChannelPrior()
    hazy = torch.rand(3, 3, *size) * 0.5 + 0.3
    restored = model(hazy)
    assert restored.shape == hazy.shape
    for i in range(3):
        torch.testing.assert_close(restored[i : i + 1], model(hazy[i : i + 1]))


def test_box_mean_covers_the_window_inside_the_image() -> None:
    image = torch.rand(1, 1, 9, 14, dtype=torch.float64)
    means = DarkChannelPrior(guided_radius=3).box_mean(image)
    for row, column in [(0, 0), (4, 7), (8, 2), (1, 13)]:
        window = image[0, 0, max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
        assert means[0, 0, row, column].item() == pytest.approx(window.mean().item())


def test_removes_uniform_haze_where_the_prior_holds() -> None:
    # Every patch has a black pixel in one channel and one region is pure airlight.
    generator = torch.Generator().manual_seed(0)
    clear = torch.rand(1, 3, 64, 64, generator=generator)
    clear[:, 0, ::4, ::4] = 0.0
    hazy = 0.4 * clear + 0.6 * 0.8
    hazy[..., :20, :20] = 0.8
    model = DarkChannelPrior(omega=1.0)
    steps = model.estimate(hazy)
    torch.testing.assert_close(steps["A"], torch.full((1, 3), 0.8, dtype=torch.float64))
    far = (slice(None), slice(None), slice(40, None), slice(40, None))
    torch.testing.assert_close(steps["t_raw"][far], torch.full_like(steps["t_raw"][far], 0.4))
    assert (steps["J"][far] - clear[far]).abs().mean() < 0.5 * (hazy[far] - clear[far]).abs().mean()


def test_a_black_image_stays_black() -> None:
    assert torch.equal(DarkChannelPrior()(torch.zeros(1, 3, 20, 30)), torch.zeros(1, 3, 20, 30))


def test_has_nothing_to_train_and_names_bad_arguments() -> None:
    model = DarkChannelPrior()
    assert not list(model.parameters())
    assert (model.multiple, model.trainable) == (1, False)
    with pytest.raises(UsageError, match=r"'papr'.*Did you mean 'paper'\?"):
        DarkChannelPrior(form="papr")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="odd side, for example 15"):
        DarkChannelPrior(patch=14)
    with pytest.raises(UsageError, match="guided_radius=59 at most"):
        DarkChannelPrior(form="repository", guided_radius=60).box_mean(torch.rand(1, 1, 30, 90))

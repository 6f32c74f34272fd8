"""RS-Haze: haze over satellite pictures, made from the cirrus band of other Landsat-8 scenes.

Song et al., "Vision Transformers for Single Image Dehazing", TIP 2023. The cirrus band gives the transmission of band
1, t1 = 1 - w cirrus; a longer wave passes more easily, t_j = t1 ^ ((l1 / l_j) ^ g), where the exponent g falls with
the thickness. The airlight of a band is a tenth the scene's own and nine tenths a fixed mix of bands, as bright as
the scene. The bands 4, 3, 2 make the picture, with gamma 1 / 2.2.

The strength w of the released pictures (from their names, 2,700 of the test set) is uniform over thousandths of
[0.1, 0.4), [0.4, 0.7) and [0.7, 1), one each per cirrus; the published generator draws it log-uniformly from
[0.05, 1]. Numbers are rounded down to 8 bits, as there. Shapes: N band, H and W picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dehaze_bench.data.synthesis_depth import read_depth
from dehaze_bench.errors import UsageError, nearest

WAVELENGTHS = (0.4430, 0.4825, 0.5625, 0.6550, 0.8650, 1.6100, 2.2000)  # micrometres, centres of the bands 1 to 7
# Mean airlight of the bands over 77 hazy scenes, as published.
MEAN_AIRLIGHT = (
    0.4675584415584417, 0.45558441558441565, 0.4893246753246754, 0.5146753246753245,
    0.6082207792207793, 0.575025974025974, 0.5434935064935067,
)  # fmt: skip
OWN_SHARE = 0.1
RGB = (4, 3, 2)
NORMALISATIONS = ("minmax", "max")
STRENGTHS = ("thirds", "log")
COPIES = 3  # cirrus patterns per scene, and strengths per pattern
_KEY = 0x25A7E


@dataclass(frozen=True)
class Bands:
    """A clear scene: a folder with `NAME_B1` to `NAME_B7` and the airlight of its bands in `NAME.csv`."""

    name: str
    files: dict[int, Path]
    airlight: tuple[float, ...]


@dataclass(frozen=True)
class Cirrus:
    """The haze of one picture: which cirrus file, how it is turned, and how strong."""

    copy: int
    file: int
    symmetry: int
    strength: float


def find_bands(clear: Path) -> list[Bands]:
    """Find the clear scenes under a folder, in name order; `UsageError` for a missing band or airlight."""
    firsts = sorted(p for p in clear.rglob("*_B1.*") if p.suffix.lower() in (".png", ".tif", ".tiff"))
    firsts.sort(key=lambda path: path.suffix.lower() != ".png")  # the same scene may lie there as TIFF too
    scenes: dict[str, Bands] = {}
    for first in firsts:
        name = first.stem.removesuffix("_B1")
        if name in scenes:
            continue
        files = {band: first.with_name(f"{name}_B{band}{first.suffix}") for band in range(1, 8)}
        missing = [path.name for path in files.values() if not path.is_file()]
        if missing:
            raise UsageError(f"{first.parent}: scene {name} lacks {', '.join(missing)}. It needs the bands 1 to 7.")
        tables = [first.parent / f"{name}.csv", first.parent.parent / f"{name}.csv"]
        table = next((path for path in tables if path.is_file()), None)
        if table is None:
            raise UsageError(f"{first.parent}: scene {name} lacks {name}.csv with the airlight of its seven bands.")
        scenes[name] = Bands(name, files, _read_airlight(table))
    if not scenes:
        raise UsageError(f"the clear folder {clear} holds no scene: expected NAME_B1.png to NAME_B7.png and NAME.csv.")
    return [scenes[name] for name in sorted(scenes)]


def find_cirrus(folder: Path) -> list[Path]:
    """Find the cirrus files (`*_B9`) under a folder, in name order."""
    found = sorted(p for p in folder.rglob("*_B9.*") if p.suffix.lower() in (".png", ".tif", ".tiff", ".npy"))
    if not found:
        raise UsageError(f"the cirrus folder {folder} holds no cirrus band: expected files like NAME_B9.tiff.")
    return found


def draw_cirrus(seed: int, index: int, num_files: int, strengths: str, square: bool) -> list[Cirrus]:
    """Draw the nine hazes of scene `index`: three patterns, different where there are enough, in three strengths."""
    if strengths not in STRENGTHS:
        raise UsageError(f"strengths={strengths} is not known. {nearest(strengths, STRENGTHS)}")
    rng = np.random.default_rng([seed, index, _KEY])
    files = rng.choice(num_files, COPIES, replace=num_files < COPIES)
    found = []
    for copy in range(COPIES):
        symmetry = int(rng.integers(8)) if square else 2 * int(rng.integers(4))
        found += [Cirrus(copy, int(files[copy]), symmetry, w) for w in _draw_strengths(strengths, rng)]
    return found


def mix_airlight(scene: tuple[float, ...]) -> np.ndarray:
    """Return the airlight that is used for each of the seven bands, from that of the scene."""
    own, mean = np.asarray(scene, np.float64), np.asarray(MEAN_AIRLIGHT)
    brightness = own[5:].mean() / mean[5:].mean()
    return np.minimum(OWN_SHARE * own + (1 - OWN_SHARE) * np.minimum(mean * brightness, 1), 1)


def thin(cirrus_HW: np.ndarray, strength: float, symmetry: int, normalisation: str) -> np.ndarray:
    """Return the transmission (H, W) of band 1, from the numbers of a cirrus band.

    symmetry: quarter turns (0 to 3), plus 4 for a flip upside down after them.
    """
    if normalisation not in NORMALISATIONS:
        raise UsageError(f"normalise={normalisation} is not known. {nearest(normalisation, NORMALISATIONS)}")
    values = cirrus_HW.astype(np.float64)
    low = values.min() if normalisation == "minmax" else 0.0
    turned = np.rot90((values - low) / (values.max() - low), symmetry % 4)
    return 1.0 - strength * (turned[::-1] if symmetry >= 4 else turned)


def transmit_bands(t1_HW: np.ndarray, bands: tuple[int, ...]) -> np.ndarray:
    """Return the transmission (N, H, W) of these bands (1 to 7) from that of band 1."""
    thickness = 1 - t1_HW
    cubic = -21.547 * thickness**3 + 41.224 * thickness**2 - 27.465 * thickness + 6.537
    exponent_HW = np.clip(cubic, 0, 4)
    with np.errstate(divide="ignore"):  # nothing passes where t1 = 0
        log_HW = np.log(t1_HW)
    ratios = [WAVELENGTHS[0] / WAVELENGTHS[band - 1] for band in bands]
    return np.stack([np.exp(ratio**exponent_HW * log_HW) for ratio in ratios])


def add_cirrus(clear_NHW: np.ndarray, t1_HW: np.ndarray, airlight: np.ndarray, bands: tuple[int, ...]) -> np.ndarray:
    """Return the hazy bands J t + A (1 - t); `airlight` is that of all seven."""
    t_NHW = transmit_bands(t1_HW, bands)
    airlight_N11 = airlight[[band - 1 for band in bands]].reshape(-1, 1, 1)
    return clear_NHW * t_NHW + airlight_N11 * (1 - t_NHW)


def read_bands(scene: Bands, bands: tuple[int, ...] = RGB) -> np.ndarray:
    """Return bands of a scene (N, H, W), float64 in [0, 1]; they are stored in 16 bits."""
    found = [read_depth(scene.files[band]) for band in bands]
    for band, values in zip(bands, found, strict=True):
        if values.dtype != np.uint16 or values.shape != found[0].shape:
            raise UsageError(
                f"{scene.files[band]}: found {values.shape[1]}x{values.shape[0]} {values.dtype}, expected 16 bits and "
                f"the size of the other bands, {found[0].shape[1]}x{found[0].shape[0]}."
            )
    return np.stack(found).astype(np.float64) / 65535


def read_cirrus(path: Path) -> np.ndarray:
    """Return the numbers of a cirrus band (H, W); `UsageError` if they are the same everywhere."""
    values = read_depth(path)
    if not np.isfinite(values).all() or not values.max() > values.min() >= 0:
        raise UsageError(f"{path}: found no pattern ({values.min()} to {values.max()}). Take this cirrus file out.")
    return values


def to_picture(rgb_NHW: np.ndarray, gamma: bool = True) -> np.ndarray:
    """Return uint8 (H, W, 3), rounded down as the published pictures are."""
    return ((rgb_NHW ** (1 / 2.2) if gamma else rgb_NHW) * 255).astype(np.uint8).transpose(1, 2, 0)


def _draw_strengths(kind: str, rng: np.random.Generator) -> list[float]:
    if kind == "thirds":
        return [int(rng.integers(low, low + 300)) / 1000 for low in (100, 400, 700)]
    drawn: set[float] = set()
    while len(drawn) < COPIES:  # the strength is in the name: two of one name would be one picture
        drawn.add(round(float(np.exp(rng.uniform(np.log(0.05), 0.0))), 4))
    return sorted(drawn)


def _read_airlight(path: Path) -> tuple[float, ...]:
    try:
        last = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()][-1]
        values = tuple(float(text) for text in last.split(",")[-7:])
    except (ValueError, IndexError, OSError) as error:
        raise UsageError(f"{path}: expected the airlight of seven bands, separated by commas ({error}).") from error
    if len(values) != 7 or not all(0 < value <= 1 for value in values):
        raise UsageError(f"{path}: expected the airlight of seven bands in (0, 1], found {list(values)}.")
    return values

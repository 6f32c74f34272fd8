"""Folders of synthetic haze: `hazy/` and `clear/`, named as RESIDE and RS-Haze name theirs, with what was drawn.

`its`, `ridcp` and `uneven` write `id_k_A.png`, `ots` writes `id_A_beta.jpg`, RS-Haze `id_k_w.png`; the clear picture
is `id.*`, so the prefix rule pairs them. Clear pictures are copied byte for byte unless a margin is cut. `haze.csv`
says what each picture was made with, `synthesis.json` the settings. A file is renamed into its place when it is
whole, so a killed run is finished by the same command; other settings in the same folder are refused.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dehaze_bench.data import synthesis_rshaze as rshaze
from dehaze_bench.data.pairs import decoder, read_image
from dehaze_bench.data.synthesis import Recipe, generator, haze_of_copy, make_hazy
from dehaze_bench.data.synthesis_depth import DepthRule, Scene, find_scenes, read_distance
from dehaze_bench.errors import JobError, UsageError, nearest

VERSION = 1
NAMES = ("keep", "number")
Row = dict[str, Any]
Progress = Callable[[Iterator[list[Row]], int], Iterable[list[Row]]]


@dataclass(frozen=True)
class Settings:
    """What decides the pictures of depth recipes, beside the files.

    seed: haze k of scene i (in name order) is a pure function of (seed, i, k).
    copies: hazy pictures per clear one; None as the recipe says, and fixed for a grid.
    margin: so many pixels are cut from each side (10 takes NYU2's 640x480 to RESIDE's 620x460).
    names: "keep", or "number" for 1, 2, ... where a name has an underscore, which ends the id in RESIDE's names.
    quality: of JPEG (`ots`). Published SOTS-outdoor pictures carry the tables of 100, with halved chroma.
    """

    seed: int = 0
    copies: int | None = None
    margin: int = 0
    names: str = "keep"
    quality: int = 100

    def __post_init__(self) -> None:
        if self.names not in NAMES:
            raise UsageError(f"names={self.names} is not known. {nearest(self.names, NAMES)}")
        for key, value, low in (("seed", self.seed, 0), ("margin", self.margin, 0), ("copies", self.copies, 1)):
            if value is not None and value < low:
                raise UsageError(f"{key}={value} is too small: at least {low}.")
        if not 1 <= self.quality <= 100:
            raise UsageError(f"quality={self.quality} is no JPEG quality: 1 to 100.")


def synthesize(
    recipe: Recipe,
    clear: Path,
    depth: Path,
    out: Path,
    settings: Settings,
    rule: DepthRule,
    workers: int = 1,
    progress: Progress = lambda rows, num: rows,
) -> int:
    """Write hazy pictures of all scenes of two folders; return how many there are. Raises `UsageError`."""
    if recipe.is_grid and settings.copies not in (None, recipe.copies):
        raise UsageError(f"copies={settings.copies}: recipe {recipe.name} makes all its {recipe.copies} combinations.")
    copies = settings.copies or recipe.copies
    scenes = find_scenes(clear, depth)
    names = _name(scenes, settings.names)
    made = {"recipe": recipe.name, "beta": str(recipe.beta), "airlight": str(recipe.airlight), "copies": copies}
    made |= {**asdict(settings), "copies": copies, "depth": asdict(rule), "scenes": [scene.name for scene in scenes]}
    _open(out, made, (clear, depth))

    def make(index: int) -> list[Row]:
        return _write_scene(recipe, scenes[index], names[index], index, copies, out, settings, rule)

    return _run(make, len(scenes), out, workers, progress)


def synthesize_rshaze(
    clear: Path,
    cirrus: Path,
    out: Path,
    seed: int = 0,
    normalisation: str = "minmax",
    strengths: str = "thirds",
    workers: int = 1,
    progress: Progress = lambda rows, num: rows,
) -> int:
    """Write nine hazy pictures of each multispectral scene; return how many there are. Raises `UsageError`."""
    scenes, patterns = rshaze.find_bands(clear), rshaze.find_cirrus(cirrus)
    if seed < 0:
        raise UsageError(f"seed={seed} is too small: at least 0.")
    rshaze.draw_cirrus(seed, 0, len(patterns), strengths, True)  # refuses what it does not know, before any writing
    if normalisation not in rshaze.NORMALISATIONS:
        raise UsageError(f"normalise={normalisation} is not known. {nearest(normalisation, rshaze.NORMALISATIONS)}")
    _refuse_underscores([scene.name for scene in scenes], "Rename its files.")
    made = {"recipe": "rshaze", "seed": seed, "normalise": normalisation, "strengths": strengths}
    made |= {"scenes": [scene.name for scene in scenes], "cirrus": [path.name for path in patterns]}
    _open(out, made, (clear, cirrus))

    def make(index: int) -> list[Row]:
        scene = scenes[index]
        bands = rshaze.read_bands(scene)
        height, width = bands.shape[1:]
        airlight = rshaze.mix_airlight(scene.airlight)
        _save(out / "clear" / f"{scene.name}.png", rshaze.to_picture(bands))
        rows = []
        for haze in rshaze.draw_cirrus(seed, index, len(patterns), strengths, height == width):
            path = out / "hazy" / f"{scene.name}_{haze.copy}_{haze.strength:.4f}.png"
            pattern = patterns[haze.file]
            if not path.exists():
                values = rshaze.read_cirrus(pattern)
                if values.shape != (height, width):
                    raise UsageError(
                        f"{pattern} is {values.shape[1]}x{values.shape[0]} but scene {scene.name} is {width}x{height}; "
                        "cirrus and bands need one size."
                    )
                t1 = rshaze.thin(values, haze.strength, haze.symmetry, normalisation)
                _save(path, rshaze.to_picture(rshaze.add_cirrus(bands, t1, airlight, rshaze.RGB)))
            row = {"file": path.name, "clear": scene.name, "cirrus": pattern.name, "symmetry": haze.symmetry}
            rows.append({**row, "strength": haze.strength})
        return rows

    return _run(make, len(scenes), out, workers, progress)


def format_number(value: float) -> str:
    """Return a number as RESIDE's names write it: five decimals at most, none for a whole number."""
    return f"{value:.5f}".rstrip("0").rstrip(".")


def read_scene(scene: Scene, rule: DepthRule, unit: str, margin: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the clear picture (3, H, W) in [0, 1] and the distance (H, W) of a scene, both without their margin.

    The distance is related to the whole map before the margin is cut. Raises `UsageError` if the sizes differ.
    """
    clear, distance = read_image(scene.clear), read_distance(scene.depth, rule, unit)
    if clear.shape[:2] != distance.shape:
        raise UsageError(
            f"{scene.clear} is {clear.shape[1]}x{clear.shape[0]} but {scene.depth} is "
            f"{distance.shape[1]}x{distance.shape[0]}; depth needs the size of its picture. Nothing is resized."
        )
    height, width = distance.shape
    if min(height, width) <= 2 * margin:
        raise UsageError(f"{scene.clear} is {width}x{height}: margin={margin} leaves nothing of it.")
    inner = np.s_[margin : height - margin, margin : width - margin]
    return np.ascontiguousarray(clear[inner].transpose(2, 0, 1)), np.ascontiguousarray(distance[inner])


def _write_scene(
    recipe: Recipe, scene: Scene, name: str, index: int, copies: int, out: Path, settings: Settings, rule: DepthRule
) -> list[Row]:
    suffix = ".png" if settings.margin else scene.clear.suffix.lower()
    target = out / "clear" / f"{name}{suffix}"
    rngs = [generator(settings.seed, index, copy) for copy in range(copies)]
    hazes = [haze_of_copy(recipe, copy, rng) for copy, rng in enumerate(rngs)]
    if recipe.is_grid:
        files = [f"{name}_{format_number(haze.grey)}_{format_number(haze.beta)}.jpg" for haze in hazes]
    else:
        files = [f"{name}_{copy + 1}_{format_number(haze.grey)}.png" for copy, haze in enumerate(hazes)]
    paths = [out / "hazy" / file for file in files]
    if not (target.exists() and all(path.exists() for path in paths)):
        clear, distance = read_scene(scene, rule, recipe.distance, settings.margin)
        if settings.margin:
            _save(target, _to_bytes(clear))
        else:
            _place(target, lambda part: shutil.copyfile(scene.clear, part))
        for path, haze, rng in zip(paths, hazes, rngs, strict=True):
            if not path.exists():
                _save(path, _to_bytes(make_hazy(clear, distance, haze, rng)), settings.quality)
    rows = []
    for file, haze in zip(files, hazes, strict=True):
        row = {"file": file, "clear": scene.name, "beta": haze.beta, "uneven": haze.uneven, "gamma": haze.gamma}
        row |= {f"airlight_{colour}": value for colour, value in zip("rgb", haze.airlight, strict=True)}
        jpeg = settings.quality if recipe.is_grid else haze.quality
        rows.append({**row, "noise": haze.noise, "sigma": round(haze.sigma, 5), "jpeg": "" if jpeg is None else jpeg})
    return rows


def _run(make: Callable[[int], list[Row]], num: int, out: Path, workers: int, progress: Progress) -> int:
    """Make all scenes on threads (decoding, arithmetic and encoding release the interpreter), then write haze.csv."""
    if workers < 1:
        raise UsageError(f"workers={workers} is too small: at least 1.")
    rows: list[Row] = []
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(make, index) for index in range(num)]
        try:
            for done in progress((future.result() for future in futures), num):
                rows += done
        finally:
            for future in futures:
                future.cancel()

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)

    _place(out / "haze.csv", write)
    return len(rows)


def _open(out: Path, made: dict[str, Any], sources: Sequence[Path]) -> None:
    """Make the folders, or find those that the same settings made."""
    for source in sources:
        if out.resolve() == source.resolve() or source.resolve() in (
            (out / "hazy").resolve(),
            (out / "clear").resolve(),
        ):
            raise UsageError(f"--out {out} would write into {source}, which is read. Choose another folder.")
    made = {"version": VERSION, "decoder": decoder(), **made}
    note = out / "synthesis.json"
    if note.is_file():
        try:
            before = json.loads(note.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UsageError(f"{note}: the settings of this folder cannot be read. Choose another --out.") from error
        differing = sorted(key for key in {*made, *before} if made.get(key) != before.get(key))
        if differing:
            raise UsageError(
                f"{out} holds haze made with other settings ({', '.join(differing)}). "
                "Choose another --out, or delete that folder."
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and holds something else. Choose another --out.")
    try:
        for folder in ("hazy", "clear"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        if not note.is_file():
            _place(note, lambda part: part.write_text(json.dumps(made, indent=1), encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot write to {out} ({error}).") from error


def _name(scenes: Sequence[Scene], names: str) -> list[str]:
    if names == "number":
        return [str(number + 1) for number in range(len(scenes))]
    _refuse_underscores([scene.name for scene in scenes], "Set names=number to call them 1, 2, ...")
    return [scene.name for scene in scenes]


def _refuse_underscores(names: Sequence[str], remedy: str) -> None:
    for name in names:
        if "_" in name:
            raise UsageError(
                f"the scene name {name} has an underscore, which ends the id in names of hazy pictures. {remedy}"
            )


def _to_bytes(image_CHW: np.ndarray) -> np.ndarray:
    return np.rint(image_CHW.transpose(1, 2, 0) * 255).astype(np.uint8)


def _save(path: Path, pixels: np.ndarray, quality: int = 100) -> None:
    """Write uint8 RGB as PNG, or as JPEG with halved chroma, as the published pictures have."""
    picture = Image.fromarray(pixels)
    if path.suffix == ".jpg":
        _place(path, lambda part: picture.save(part, "JPEG", quality=quality, subsampling="4:2:0"))
    else:
        _place(path, lambda part: picture.save(part, "PNG"))


def _place(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and rename it when it is whole."""
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        os.replace(part, path)
    except OSError as error:
        raise JobError(f"cannot write {path} ({error}). Mend it and repeat the command: it goes on.") from error

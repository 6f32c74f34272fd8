"""Pictures of scans: what they show, the files they become, and what is said where they cannot be made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dehaze_bench.errors import UsageError
from dehaze_bench.scans import picture, planar
from dehaze_bench.scans.grid import Grid, Walk, token_ids

Routes = list[tuple[Walk, np.ndarray]]


def on(grid: Grid, *walks: Walk) -> Routes:
    return [(walk, walk.order(walk.coarse(grid))) for walk in walks]


def every_second(grid: Grid) -> np.ndarray:
    """Half of the tokens, padded to the length of all, and the last of them twice."""
    ids = np.arange(0, int(np.prod(grid)), 2)
    return np.concatenate([ids, ids[-1:], np.full(int(np.prod(grid)) - len(ids) - 1, -1)])[None]


@pytest.mark.parametrize(
    ("grid", "walks", "titles"),
    [
        ((8, 8), [Walk(planar.cross)], ["route 1", "route 2", "route 3", "route 4"]),
        ((3, 4, 4), [Walk(planar.bidirectional)], ["route 1", "route 2"]),
        ((4, 6), [Walk(lambda grid: planar.raster(grid, copies=3))], ["routes 1, 2, 3"]),
        ((7, 9), [Walk(planar.raster), Walk(planar.raster, scale=2)], ["route 1", "route 2 (4x5)"]),
        ((5, 4, 4), [Walk(planar.raster, scale=(2, 1, 1))], ["route 1 (3x4x4)"]),
        ((4, 4), [Walk(every_second)], ["route 1 (7 padding, repeats)"]),
        ((1, 1), [Walk(planar.raster)], ["route 1"]),
        ((1, 1), [Walk(lambda grid: np.array([[0], [-1]]))], ["route 1", "route 2 (1 padding)"]),
        ((1, 30), [Walk(planar.raster)], ["route 1"]),
        ((30, 1), [Walk(planar.raster)], ["route 1"]),
        ((60, 80), [Walk(planar.raster)], ["route 1"]),
    ],
)
def test_a_panel_per_route(grid: Grid, walks: list[Walk], titles: list[str]) -> None:
    figure = picture.draw(on(grid, *walks), grid)
    assert [axis.get_title() for axis in figure.axes if axis.get_title()] == titles
    width, height = figure.get_size_inches()
    assert 0 < width < 9
    assert 0 < height < 9


def test_colour_is_the_step_of_the_first_visit() -> None:
    walk = Walk(lambda grid: np.array([[2, 0, 2, 1, -1]]))
    (axis,) = picture.draw(on((2, 2), walk), (2, 2)).axes
    values = axis.images[0].get_array().filled(np.nan)
    assert np.array_equal(values, [[1, 3], [0, np.nan]], equal_nan=True)
    assert axis.images[0].get_clim() == (0, 3)


def test_frames_lie_side_by_side() -> None:
    grid = (3, 2, 2)
    (axis,) = picture.draw(on(grid, Walk(planar.raster)), grid).axes
    assert [image.get_array().tolist() for image in axis.images] == token_ids(grid).tolist()
    lefts = [image.get_extent()[0] for image in axis.images]
    assert lefts == sorted(lefts)
    assert lefts[1] - lefts[0] > 2


@pytest.mark.parametrize("suffix", picture.SUFFIXES)
def test_equal_pictures_are_equal_files(suffix: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        routes = on((4, 4), Walk(planar.cross))
        picture.write(picture.draw(routes, (4, 4)), tmp_path / "new" / f"{name}{suffix}")
    first, second = ((tmp_path / "new" / f"{name}{suffix}").read_bytes() for name in ("a", "b"))
    assert first == second
    if suffix == ".png":
        with Image.open(tmp_path / "new" / "a.png") as image:
            assert image.width > image.height > 100
            assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 16


@pytest.mark.parametrize("name", ["scan", "scan.gif", "scan.jpg"])
def test_the_suffix_says_which_kind(name: str, tmp_path: Path) -> None:
    figure = picture.draw(on((2, 2), Walk(planar.raster)), (2, 2))
    with pytest.raises(UsageError, match=r"must end in \.png, \.svg or \.pdf"):
        picture.write(figure, tmp_path / name)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    figure = picture.draw(on((2, 2), Walk(planar.raster)), (2, 2))
    with pytest.raises(UsageError, match="cannot be written"):
        picture.write(figure, tmp_path / "file" / "scan.png")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'dehaze-bench\[plots\]'"):
        picture.draw(on((2, 2), Walk(planar.raster)), (2, 2))


def test_importing_the_module_needs_no_matplotlib() -> None:
    code = "import sys; from dehaze_bench.scans import picture, sheet; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Photos and folders: formats, orientation, alpha, broken files, names, and what is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dehaze_bench.errors import JobError, UsageError
from dehaze_bench.infer import PhotoResult, Summary, restore_folder
from dehaze_bench.infer.picture import read_picture, to_8bit
from tests.infer.infer_networks import Same


def colours(height: int = 11, width: int = 17, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def restore(source: Path, out: Path) -> Summary:
    return restore_folder(Same(4), source, out, device="cpu")


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tif", ".jpg", ".jpeg", ".webp"])
def test_every_format_comes_back_as_png_to_the_level(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "in" / f"photo{suffix}"
    path.parent.mkdir()
    Image.fromarray(colours()).save(path)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    summary = restore(path.parent, tmp_path / "out")
    assert [result.target for result in summary.done] == [tmp_path / "out" / "photo.png"]
    with Image.open(tmp_path / "out" / "photo.png") as image:
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), expected)


def test_orientation_is_honoured(tmp_path: Path) -> None:
    pixels = colours()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 270 degrees counter-clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    picture = read_picture(tmp_path / "turned.png")
    assert np.array_equal(to_8bit(picture.image_CHW), np.rot90(pixels, k=-1))


def test_alpha_palette_and_grey(tmp_path: Path) -> None:
    pixels = colours()
    transparent = np.dstack([pixels, np.full(pixels.shape[:2], 128, dtype=np.uint8)])
    Image.fromarray(transparent).save(tmp_path / "alpha.png")
    picture = read_picture(tmp_path / "alpha.png")
    assert picture.notes == ("alpha dropped",)
    assert np.array_equal(to_8bit(picture.image_CHW), pixels)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(to_8bit(read_picture(tmp_path / "grey.png").image_CHW)[..., 2], pixels[..., 0])


def test_sixteen_bits_of_grey_are_not_clipped(tmp_path: Path) -> None:
    levels = np.array([[0, 256, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    image_CHW = read_picture(tmp_path / "deep.png").image_CHW
    torch.testing.assert_close(image_CHW[1], torch.from_numpy(levels / 65535.0).float())


def test_rounding_and_clamping() -> None:
    values = torch.tensor([-0.2, 0.0, 0.5 / 255, 0.51 / 255, 1.5 / 255, 1.0, 1.3]).expand(3, 1, -1)
    assert to_8bit(values)[0, :, 0].tolist() == [0, 0, 0, 1, 2, 255, 255]


def test_broken_files_are_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.jpg").write_bytes(b"no picture")
    (tmp_path / "d.png").write_bytes(whole)
    (tmp_path / "notes.txt").write_text("not a photo", encoding="utf-8")
    seen: list[tuple[int, int, str]] = []

    def note(done: int, total: int, result: PhotoResult) -> None:
        seen.append((done, total, result.source.name))

    summary = restore_folder(Same(), tmp_path, tmp_path / "out", device="cpu", on_progress=note)
    assert [result.source.name for result in summary.done] == ["a.png", "d.png"]
    assert [(result.source.name, result.target) for result in summary.failed] == [
        ("b.png", None),
        ("c.jpg", None),
    ]
    assert all(result.error for result in summary.failed)
    assert [path.name for path in summary.ignored] == ["notes.txt"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "d.png"]
    assert seen == [(1, 4, "a.png"), (2, 4, "b.png"), (3, 4, "c.jpg"), (4, 4, "d.png")]


class Broken(nn.Module):
    multiple = 1

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW * float("nan")


class Hungry(nn.Module):
    multiple = 16

    def forward(self, x_BCHW: Tensor) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


class Choosy(nn.Module):
    multiple = 1

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if x_BCHW.shape[-1] < 20:
            raise JobError("too small for this network")
        return x_BCHW


def test_a_photo_that_the_network_refuses_does_not_stop_the_rest(tmp_path: Path) -> None:
    Image.fromarray(colours(9, 10)).save(tmp_path / "a.png")
    Image.fromarray(colours(9, 30)).save(tmp_path / "b.png")
    summary = restore_folder(Choosy(), tmp_path, tmp_path / "out", device="cpu")
    assert [result.error for result in summary.results] == ["too small for this network", None]


def test_what_the_network_does_wrong_is_reported(tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "a.png")
    [failed] = restore_folder(Broken(), tmp_path, tmp_path / "out", device="cpu").failed
    assert "not finite" in str(failed.error)
    [failed] = restore_folder(Hungry(), tmp_path, tmp_path / "out", device="cpu").failed
    assert "tile=512" in str(failed.error)
    assert not (tmp_path / "out").exists()


def test_tiles_and_side_by_side(tmp_path: Path) -> None:
    pixels = colours(40, 50)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    model = Same(4)
    restore_folder(model, tmp_path, tmp_path / "out", 16, 4, device="cpu", side_by_side=True)
    assert set(model.shapes) == {(1, 3, 16, 16)}
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert np.array_equal(np.asarray(image), pixels)
    with Image.open(tmp_path / "out" / "side_by_side" / "a.png") as image:
        assert np.array_equal(np.asarray(image), np.concatenate([pixels, pixels], axis=1))


class Mean(nn.Module):
    """Every frame becomes the mean of its clip, so that the result tells which frames were seen together."""

    multiple = 4
    takes_clips = True

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, clip_BTCHW: Tensor) -> Tensor:
        self.shapes.append(tuple(clip_BTCHW.shape))
        return clip_BTCHW.mean(1, keepdim=True).expand_as(clip_BTCHW)


def write_frames(folder: Path, levels: list[int], width: int = 10) -> None:
    folder.mkdir(exist_ok=True)
    for level in levels:
        Image.new("RGB", (width, 6), (level,) * 3).save(folder / f"{level:03d}.png")


def levels_of(summary: Summary) -> list[int | None]:
    targets = [result.target for result in summary.results]
    return [None if target is None else int(np.asarray(Image.open(target))[2, 2, 0]) for target in targets]


def test_a_network_of_clips_sees_frames_together(tmp_path: Path) -> None:
    write_frames(tmp_path / "video", [10, 20, 30, 40, 50, 60, 70])
    model = Mean()
    summary = restore_folder(model, tmp_path / "video", tmp_path / "out", device="cpu", frames=3)
    # Seven frames in three windows as even as can be, as a test set cuts them.
    assert [shape[1] for shape in model.shapes] == [2, 3, 2]
    assert levels_of(summary) == [15, 15, 40, 40, 40, 65, 65]


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("tile", [None, 4])
def test_clips_by_tiles_and_symmetries(tmp_path: Path, tile: int | None, ensemble: bool) -> None:
    write_frames(tmp_path / "video", [10, 20, 30])
    model = Mean()
    summary = restore_folder(
        model, tmp_path / "video", tmp_path / "out", tile, 0, device="cpu", ensemble=ensemble, side_by_side=True
    )
    assert levels_of(summary) == [20, 20, 20]
    assert Image.open(tmp_path / "out" / "side_by_side" / "010.png").size == (20, 6)
    assert {shape[:3] for shape in model.shapes} == {(1, 3, 3)}


def test_a_broken_frame_and_another_size_do_not_stop_a_clip(tmp_path: Path) -> None:
    write_frames(tmp_path / "video", [10, 30])
    write_frames(tmp_path / "video", [50, 90], width=14)
    (tmp_path / "video" / "020.png").write_bytes(b"no picture")
    summary = restore_folder(Mean(), tmp_path / "video", tmp_path / "out", device="cpu")
    assert levels_of(summary) == [20, None, 20, 70, 70]
    assert [failed.source.name for failed in summary.failed] == ["020.png"]


def test_frames_are_for_networks_of_clips(tmp_path: Path) -> None:
    write_frames(tmp_path / "video", [10])
    with pytest.raises(UsageError, match=r"frames=3 is for networks of clips; Same sees one picture"):
        restore_folder(Same(4), tmp_path / "video", tmp_path / "out", device="cpu", frames=3)
    with pytest.raises(UsageError, match="at least 1"):
        restore_folder(Mean(), tmp_path / "video", tmp_path / "out", device="cpu", frames=0)


def test_a_single_photo_and_equal_stems(tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "a.png")
    Image.fromarray(colours()).save(tmp_path / "a.bmp")
    restore(tmp_path / "a.png", tmp_path / "one" / "result.png")
    assert (tmp_path / "one" / "result.png").is_file()
    targets = [result.target for result in restore(tmp_path, tmp_path / "all").done]
    assert [target.name for target in targets if target] == ["a.bmp.png", "a.png.png"]


def test_requests_that_cannot_be_right(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    with pytest.raises(UsageError, match=r"no photo or folder at .*absent"):
        restore(tmp_path / "absent", tmp_path / "out")
    with pytest.raises(UsageError, match="holds no photo"):
        restore(photos, tmp_path / "out")
    Image.fromarray(colours()).save(photos / "a.png")
    with pytest.raises(UsageError, match="overwrite its own source"):
        restore(photos, photos)
    (photos / "a.txt").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match=r"a\.txt is not a photo"):
        restore(photos / "a.txt", tmp_path / "out")
    with pytest.raises(UsageError, match="Results are PNG"):
        restore(photos / "a.png", tmp_path / "out.jpg")
    with pytest.raises(UsageError, match="tile=10"):
        restore_folder(Same(4), photos, tmp_path / "out", 10, device="cpu")
    assert not (tmp_path / "out").exists()

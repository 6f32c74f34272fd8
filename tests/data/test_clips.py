"""Clips: consecutive frames under one crop and one symmetry, whatever the number of workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from dehaze_bench.data import Photos, batches
from dehaze_bench.data.clips import ClipCrops, ClipPairs, TestVideo
from dehaze_bench.data.clips_made import DeadLeavesClips, PhotosClips
from dehaze_bench.data.holdout import hold_out
from dehaze_bench.data.pairs import to_unit
from dehaze_bench.errors import UsageError
from tests.data.trees import grow, save, trees, veil

CONF = Path(__file__).resolve().parents[2] / "conf"
HEIGHT, WIDTH = 20, 26


def frame(video: int, number: int) -> np.ndarray:
    """Return a picture whose red says where a pixel lies, green which frame it is and blue which video."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[..., 0] = np.arange(HEIGHT)[:, None] * 8 + np.arange(WIDTH)[None] // 4
    picture[..., 1], picture[..., 2] = 3 * number, 5 * video
    return picture


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """REVIDE with three videos of 7, 2 and 4 frames; hazy pictures are veiled."""
    for video, num in ((1, 7), (2, 2), (3, 4)):
        for number in range(num):
            clear = frame(video, number)
            for side, picture in (("gt", clear), ("hazy", veil(clear))):
                save(tmp_path / f"REVIDE/Train/{side}/C{video:03}/{number:05}.png", picture)
                save(tmp_path / f"REVIDE/Test/{side}/C{video:03}/{number:05}.png", picture)
    return tmp_path


def train(root: Path, frames: int = 3) -> ClipCrops:
    return ClipCrops("revide", str(root), ["REVIDE/Train"], match="equal", frames=frames)


def test_no_video_is_trained_on_and_held_out(root: Path) -> None:
    kept, [pair] = hold_out(train(root), 1, 8, 0)
    assert pair.name.startswith("C003/")
    assert [kept.sample(i, 8, np.random.default_rng(0)).name[:4] for i in range(len(kept))] == ["C001"] * 5


def test_a_clip_is_consecutive_frames_of_one_video_under_one_crop(root: Path) -> None:
    clips = train(root)
    assert len(clips) == 5 + 0 + 2
    assert clips.layout.endswith("; 3 videos, 1 shorter than 3 frames left out, 7 clips")
    for index in range(len(clips)):
        sample = clips.sample(index, 8, np.random.default_rng(index))
        clear = sample.clear
        assert sample.hazy.shape == clear.shape == (3, 3, 8, 8)
        assert (clear[:, 0] == clear[0, 0]).all()  # the same place in every frame
        assert (np.diff(clear[:, 1, 0, 0].astype(int)) == 3).all()
        assert len(np.unique(clear[:, 2])) == 1
        assert (sample.hazy == veil(clear)).all()  # and in both pictures
        name, more = sample.name.split("+")
        video, number = name.split("/")
        assert more == "2" and clear[0, 1, 0, 0] == 3 * int(number) and clear[0, 2, 0, 0] == 5 * int(video[1:])


def test_the_loader_moves_all_frames_alike_for_any_number_of_workers(root: Path) -> None:
    clips = train(root)

    def made(workers: int) -> list[torch.Tensor]:
        steps = batches(clips, seed=3, start=0, stop=4, batch=2, crop=8, augment=["flip", "rot90"], num_workers=workers)
        return [image for batch in steps for image in (batch.hazy_BCHW.clone(), batch.clear_BCHW.clone())]

    alone, helped = made(0), made(2)
    assert all(torch.equal(one, two) for one, two in zip(alone, helped, strict=True))
    corners = set()
    for hazy, clear in zip(alone[::2], alone[1::2], strict=True):
        assert clear.shape == (2, 3, 3, 8, 8)
        assert (clear[:, :, 0] == clear[:, :1, 0]).all()
        levels = (clear * 255).round().numpy().astype(np.uint8)
        assert np.array_equal((hazy * 255).round().numpy().astype(np.uint8), veil(levels))
        reds = levels[:, 0, 0].astype(int)
        corners |= {(int(red[0, 0] < red[-1, -1]), int(red[0, -1] < red[-1, 0])) for red in reds}
    assert len(corners) > 1  # something was turned or flipped


def test_batches_go_on_from_any_step(root: Path) -> None:
    arguments = {"seed": 5, "batch": 2, "crop": 8, "augment": ["flip"]}
    whole = [batch.clear_BCHW.clone() for batch in batches(train(root), start=0, stop=4, **arguments)]
    rest = [batch.clear_BCHW.clone() for batch in batches(train(root), start=2, stop=4, **arguments)]
    assert all(torch.equal(one, two) for one, two in zip(whole[2:], rest, strict=True))


def test_a_test_video_is_read_in_windows_that_hold_every_frame_once(root: Path) -> None:
    videos = ClipPairs("revide", str(root), ["REVIDE/Test"], match="equal", frames=3)
    assert videos.name == "revide_clips" and len(videos) == 3 and videos.has_truth
    first = videos[0]
    assert isinstance(first, TestVideo) and first.name == "C001"
    windows = list(first.clips())
    assert [len(window.names) for window in windows] == [2, 3, 2]
    assert [name for window in windows for name in window.names] == [f"C001/{i:05}" for i in range(7)]
    for window in windows:
        assert window.clear is not None
        assert window.hazy.shape == window.clear.shape == (len(window.names), 3, HEIGHT, WIDTH)
        numbers = [int(name[-5:]) for name in window.names]
        assert (window.clear[:, 1, 0, 0] * 255 / 3).round().tolist() == numbers


@pytest.mark.parametrize(
    ("frames", "message"), [(8, "none of 3 videos has 8 frames, the longest has 7"), (0, "too few")]
)
def test_clips_that_cannot_be_are_refused(root: Path, frames: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train(root, frames)


def test_pictures_without_videos_are_refused(root: Path) -> None:
    with pytest.raises(UsageError, match=r"one folder of frames per video, but 00000 lies in none"):
        ClipPairs("mine", str(root), ["."], str(root / "REVIDE/Test/hazy/C001"), str(root / "REVIDE/Test/gt/C001"))


def test_frames_of_several_sizes_are_named(root: Path) -> None:
    for side in ("hazy", "gt"):
        save(root / f"REVIDE/Test/{side}/C003/00002.png", np.zeros((HEIGHT, WIDTH + 2, 3), np.uint8))
        save(root / f"REVIDE/Train/{side}/C003/00002.png", np.zeros((HEIGHT, WIDTH + 2, 3), np.uint8))
    videos = ClipPairs("revide", str(root), ["REVIDE/Test"], match="equal", frames=2)
    with pytest.raises(UsageError, match=r"video 'C003' have several sizes: 26x20 and 28x20"):
        list(videos[2].clips())
    with pytest.raises(
        UsageError, match=r"C003.00002\.png: found 28x20 pixels, but .*00001\.png of the same video has 26x20"
    ):
        train(root).sample(6, 8, np.random.default_rng(0))


@pytest.mark.parametrize("group", ["dataset", "testset"])
@pytest.mark.parametrize("name", ["revide", "hazeworld"])
def test_the_configs_read_every_shape_of_their_set(group: str, name: str, tmp_path: Path) -> None:
    node = OmegaConf.to_container(OmegaConf.load(CONF / f"{group}/{name}_clips.yaml"), resolve=False)
    assert isinstance(node, dict)
    kind = ClipCrops if group == "dataset" else ClipPairs
    assert node.pop("_target_") == f"dehaze_bench.data.clips.{kind.__name__}"
    part = (name, "train" if group == "dataset" else "test")
    for number, tree in enumerate(tree for tree in trees() if (tree.name, tree.role) == part):
        place = tmp_path / str(number)
        names = grow(place, tree)
        clips = kind(**{**node, "root": str(place), "frames": 2})
        assert clips.pairs.names == names
        assert clips.name == f"{name}_clips"


class TestDeadLeaves:
    def test_the_camera_pans_over_a_scene_whose_haze_stays(self) -> None:
        clips = DeadLeavesClips(frames=4, speed=5, scenes=20, canvas=(96, 128))
        moved = 0
        for index in range(4):
            sample = clips.sample(index, 40, np.random.default_rng(index))
            assert sample.hazy.shape == sample.clear.shape == (4, 3, 40, 40)
            steps = [find_step(to_unit(sample.clear)[0], to_unit(sample.clear)[t]) for t in range(4)]
            moved += steps[-1] != (0, 0)
            for t, (down, across) in enumerate(steps):
                for image in (sample.hazy, sample.clear):
                    assert np.array_equal(overlap(image[0], down, across), overlap(image[t], -down, -across))
        assert moved >= 3

    def test_it_is_a_pure_function(self) -> None:
        one, two = (DeadLeavesClips(scenes=5, canvas=(96, 96)).sample(3, 32, np.random.default_rng(1)) for _ in "12")
        assert one.name == two.name and np.array_equal(one.hazy, two.hazy)

    def test_a_path_that_leaves_the_canvas_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"5 frames of 64 x 64 that move by up to 4 pixels do not fit the 64 x 96"):
            DeadLeavesClips(scenes=5, canvas=(64, 96)).sample(0, 64, np.random.default_rng(0))


def overlap(image: np.ndarray, down: int, across: int) -> np.ndarray:
    """Return what of a frame is still seen after moving the window down and across."""
    height, width = image.shape[-2:]
    return image[:, max(down, 0) : height + min(down, 0), max(across, 0) : width + min(across, 0)]


def find_step(first: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """Return the step under which two frames agree to the bit."""
    for down in range(-16, 17):
        for across in range(-16, 17):
            if np.array_equal(overlap(first, down, across), overlap(other, -down, -across)):
                return down, across
    raise AssertionError("no step fits")


def test_photos_clips_are_windows_of_the_photographs(photos: Photos) -> None:
    clips = PhotosClips(frames=3, window=(40, 60), step=(3, 8), cache_dir=str(photos.folder.parent))
    assert len(clips) == len(photos) and clips.name == "photos_clips"
    for index in (0, 1):
        clip, whole = clips[index], photos[index]
        assert clip.names == [f"{whole.name}/{t:02}" for t in range(3)]
        sign = 1 if index % 2 == 0 else -1
        for mine, image in ((clip.hazy, whole.hazy), (clip.clear, whole.clear)):
            assert mine is not None and image is not None and mine.shape == (3, 3, 40, 60)
            top = (image.shape[1] - 40 - 6) // 2
            left = (image.shape[2] - 60 - 16) // 2
            left = left if sign > 0 else image.shape[2] - 60 - left
            for t in range(3):
                x = left + sign * 8 * t
                assert torch.equal(mine[t], image[:, top + 3 * t : top + 3 * t + 40, x : x + 60])
    with pytest.raises(UsageError, match=r"astronaut_1 is 512x512, too small for 3 frames of 510x40 that move by"):
        PhotosClips(frames=3, window=(40, 510), cache_dir=str(photos.folder.parent))[0]

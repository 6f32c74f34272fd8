from __future__ import annotations

import multiprocessing
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dehaze_bench.data import Photos, decoder
from dehaze_bench.data import photos as module
from dehaze_bench.data.haze import remove_haze, transmit
from dehaze_bench.errors import UsageError

# PSNR of the hazy picture in dB: a change of any of these makes old results incomparable, so it must raise VERSION.
# The rocket is a JPEG: decoders differ by a level, far below the tolerance.
HAZY_PSNR = {
    "astronaut_1": 14.94,
    "astronaut_2": 12.08,
    "astronaut_3": 11.16,
    "coffee_1": 11.89,
    "coffee_2": 12.40,
    "coffee_3": 8.71,
    "chelsea_1": 16.60,
    "chelsea_2": 10.51,
    "rocket_1": 14.31,
    "rocket_2": 10.28,
    "rocket_3": 9.96,
    "motorcycle_1": 16.29,
    "motorcycle_2": 12.19,
    "motorcycle_3": 11.67,
}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the two smallest pairs, so that a cache is made in no time."""
    small = tuple(recipe for recipe in module._RECIPES if recipe.name.startswith("chelsea"))
    monkeypatch.setattr(module, "_RECIPES", small)


def test_the_pairs_have_the_values_they_had(photos: Photos) -> None:
    psnr = {}
    for i in range(len(photos)):
        pair = photos[i]
        assert pair.clear is not None
        assert pair.hazy.shape == pair.clear.shape
        assert min(pair.hazy.shape[1:]) >= 256
        psnr[pair.name] = -10 * float((pair.hazy - pair.clear).square().mean().log10())
    assert psnr == pytest.approx(HAZY_PSNR, abs=0.02)
    assert photos.name == "photos"
    assert photos.decoder == decoder()


def test_the_set_is_quick_to_evaluate(photos: Photos) -> None:
    assert len(photos) >= 12
    assert sum(photos[i].hazy[0].numel() for i in range(len(photos))) < 4e6


def test_the_stereo_pair_has_its_measured_depth() -> None:
    depth = module._stereo_depth()
    assert depth.shape == (500, 741)
    assert np.isfinite(depth).all()
    assert depth.min() == pytest.approx(2.11, abs=0.01)
    assert depth.max() == pytest.approx(5.02, abs=0.01)


def test_the_haze_of_the_stereo_pair_can_be_inverted() -> None:
    recipe = next(r for r in module._RECIPES if r.name == "motorcycle_2")
    clear, hazy = module.make_pair(recipe)
    top, left, height, width = recipe.window
    t = transmit(module._stereo_depth()[top : top + height, left : left + width], recipe.beta)
    back = remove_haze(hazy.transpose(2, 0, 1) / np.float32(255), t, recipe.airlight)
    # Half a level of rounding, magnified by 1 / t.
    assert np.abs(back - clear.transpose(2, 0, 1) / 255).max() <= (0.51 / 255 / t).max()


def test_parameters_lie_in_the_ranges_of_reside() -> None:
    for recipe in module._RECIPES:
        assert 0.7 <= recipe.airlight <= 1.0
        stereo = recipe.name.startswith("motorcycle")
        assert 0.1 <= recipe.beta <= 0.3 if stereo else 0.6 <= recipe.beta <= 1.8
        if not stereo:
            depth = module._made_up_depth(*recipe.window[2:], recipe)
            assert depth.min() == pytest.approx(recipe.near)
            assert depth.max() == pytest.approx(1.0)
            assert max(np.abs(np.diff(depth, axis=axis)).max() for axis in (0, 1)) < 0.02  # smooth


@pytest.mark.usefixtures("few")
def test_a_second_start_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Photos(str(tmp_path))
    monkeypatch.setattr(module, "_build", lambda folder: pytest.fail("built again"))
    assert Photos(str(tmp_path))[0].hazy.equal(first[0].hazy)
    monkeypatch.setenv("DEHAZE_BENCH_CACHE", str(tmp_path))
    assert Photos().folder == first.folder


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("damage", ["truncate", "remove", "edit", "manifest", "half", "version"])
def test_a_cache_that_is_not_whole_is_made_again(damage: str, tmp_path: Path) -> None:
    photos = Photos(str(tmp_path))
    before = [photos[i].hazy for i in range(len(photos))]
    file, manifest = photos.folder / "chelsea_2_hazy.png", photos.folder / "manifest.json"
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:1000])
    elif damage == "remove":
        file.unlink()
    elif damage == "edit":
        file.write_bytes((photos.folder / "chelsea_1_hazy.png").read_bytes())
    elif damage == "manifest":
        manifest.write_text("{")
    elif damage == "half":
        manifest.unlink()
    else:
        manifest.write_text(manifest.read_text().replace(module._signature(), "0"))
    again = Photos(str(tmp_path))
    assert [again[i].hazy.equal(picture) for i, picture in enumerate(before)] == [True, True]
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == [photos.folder.name]


def _start(cache: str, barrier: multiprocessing.synchronize.Barrier, answers: multiprocessing.Queue) -> None:
    torch.set_num_threads(1)  # as in a worker of the loader: OpenMP's threads do not survive a fork
    barrier.wait(30)
    photos = Photos(cache)
    answers.put([float(photos[i].hazy.double().sum()) for i in range(len(photos))])


@pytest.mark.usefixtures("few")
def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_start, args=(str(tmp_path), barrier, answers), daemon=True) for _ in range(3)]
    for worker in workers:
        worker.start()
    sums = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert sums[0] == sums[1] == sums[2]
    assert len(sums[0]) == 2


def test_a_cache_made_with_another_decoder_says_so(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Photos(str(tmp_path))
    monkeypatch.setattr(module, "decoder", lambda: "Pillow 0.1")
    assert Photos(str(tmp_path)).decoder == f"Pillow 0.1 (pictures made with {decoder()})"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write the cache folder .*file.*Set DEHAZE_BENCH_CACHE"):
        Photos(str(tmp_path / "file"))


def test_a_missing_picture_of_scikit_image_is_named() -> None:
    with pytest.raises(UsageError, match=r"nothing\.png is missing"):
        module._bundled("nothing.png")


@pytest.mark.usefixtures("few")
def test_neither_the_network_nor_a_downloader_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)  # importing it fails
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("a connection was tried"))
    assert len(Photos(str(tmp_path))) == 2

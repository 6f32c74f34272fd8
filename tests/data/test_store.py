from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import pickle
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from dehaze_bench import cli
from dehaze_bench.compose import compose_run, identify_run
from dehaze_bench.data import FolderCrops, FolderPairs, batches
from dehaze_bench.data import store_making as making
from dehaze_bench.data.store import MANIFEST, Files, Store, find_damage, read_manifest
from dehaze_bench.data.store_copies import copy_as_png
from dehaze_bench.data.store_finding import common_folder
from dehaze_bench.data.store_making import Packed, pack
from dehaze_bench.errors import JobError, UsageError
from dehaze_bench.metrics import CONVENTIONS
from tests.data.test_layouts import settings
from tests.metrics.test_protocol import NAMES, REAL, preset

ARGUMENTS = {"crop": "centre10"}


def draw(path: Path, height: int, width: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


def make_tree(root: Path, scenes: int = 4, ending: str = "png") -> Path:
    """Write scenes with two hazy pictures each; half of the clear ones have the rim of 10 px."""
    for scene in range(scenes):
        rim = 20 * (scene % 2)
        draw(root / f"clear/{scene}.{ending}", 44 + rim, 52 + rim, scene)
        for k in range(2):
            draw(root / f"hazy/{scene}_{k}.{ending}", 44, 52, 100 + 10 * scene + k)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "set")


def crops(root: Path, **more: object) -> FolderCrops:
    return FolderCrops("mine", str(root), **(ARGUMENTS | more))


def whole_pictures(root: Path) -> FolderPairs:
    return FolderPairs("mine", str(root), **ARGUMENTS)


def pack_tree(tree: Path, folder: Path | None = None, keep_jpeg: bool = False, **more: object) -> Packed:
    pairs = crops(tree).pairs
    more = {"shard_bytes": 20_000} | more
    folder = tree / "packed/dataset-mine" if folder is None else folder
    return pack(
        "mine", folder, tree, pairs.layout, None, pairs.names, pairs.hazy, pairs.clear, keep_jpeg=keep_jpeg, **more
    )


def sums(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("shard-*")}


def assert_same_crops(one: FolderCrops, two: FolderCrops, size: int = 17) -> None:
    assert len(one) == len(two)
    for index in range(len(one)):
        for seed in range(3):
            a, b = (d.sample(index, size, np.random.default_rng([seed, index])) for d in (one, two))
            assert a.name == b.name
            for x, y in ((a.hazy, b.hazy), (a.clear, b.clear)):
                assert x.dtype == y.dtype == np.uint8
                assert x.shape == y.shape == (3, size, size)
                assert np.array_equal(x, y)


def assert_same_pairs(one: FolderPairs, two: FolderPairs) -> None:
    assert len(one) == len(two)
    for index in range(len(one)):
        a, b = one[index], two[index]
        assert a.name == b.name
        assert torch.equal(a.hazy, b.hazy)
        assert a.clear is not None and b.clear is not None and torch.equal(a.clear, b.clear)


def is_packed(dataset: FolderCrops | FolderPairs) -> bool:
    return isinstance(dataset._source, Store)


@pytest.mark.parametrize(("ending", "keep_jpeg"), [("png", False), ("jpg", False), ("jpg", True)])
def test_packed_crops_and_pictures_equal_those_of_the_files_to_the_bit(
    ending: str, keep_jpeg: bool, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "set", ending=ending)
    files, whole = crops(tree), whole_pictures(tree)
    assert not is_packed(files)
    done = pack_tree(tree, keep_jpeg=keep_jpeg)
    assert done.pictures == 12 and done.kept == 0 and done.shards > 1
    packed, packed_whole = crops(tree), whole_pictures(tree)
    assert is_packed(packed) and is_packed(packed_whole)
    assert packed.layout == files.layout and packed.decoder == files.decoder
    assert_same_crops(files, packed)
    assert_same_crops(files, packed, 44)
    assert_same_pairs(whole, packed_whole)
    kinds = {entry.kind for shard in Store(tree / "packed/dataset-mine").manifest.shards for entry in shard.pictures}
    assert kinds == {"encoded" if keep_jpeg else "raw"}


def test_the_shards_are_plain_safetensors_named_after_the_files(tree: Path) -> None:
    pack_tree(tree)
    found = {}
    for shard in (tree / "packed/dataset-mine").glob("*.safetensors"):
        found |= load_file(shard)
    assert len(found) == 12
    assert np.array_equal(found["hazy/2_1.png"], np.asarray(Image.open(tree / "hazy/2_1.png")))


def test_a_copy_stands_for_the_files_when_the_root_is_or_holds_it(tree: Path, tmp_path: Path) -> None:
    files, whole = crops(tree), whole_pictures(tree)
    copies = tmp_path / "copies"
    pack_tree(tree, copies / "dataset-mine")
    pack_tree(tree, copies / "testset-mine")
    assert not is_packed(crops(tree))  # nobody said that there are copies elsewhere
    tree.rename(tmp_path / "gone")
    for root in (copies, copies / "dataset-mine"):
        assert_same_crops_by_names(files, crops(root), tmp_path)
    assert whole_pictures(copies).layout.startswith(f"packed {copies}/testset-mine, of hazy ")
    assert [whole_pictures(copies)[i].name for i in range(8)] == whole.pairs.names


def assert_same_crops_by_names(files: FolderCrops, packed: FolderCrops, tmp_path: Path) -> None:
    moved = crops(tmp_path / "gone")
    assert packed.pairs.names == files.pairs.names
    assert_same_crops(moved, packed)


def test_a_copy_moves_with_its_set(tree: Path, tmp_path: Path) -> None:
    pack_tree(tree)
    tree.rename(tmp_path / "elsewhere")
    assert is_packed(crops(tmp_path / "elsewhere"))


def test_a_copy_of_another_split_is_refused(tree: Path, tmp_path: Path) -> None:
    pack_tree(tree, tmp_path / "copy")
    with pytest.raises(UsageError, match=r"packed with split=None, not split=first"):
        Store(tmp_path / "copy").pairs("first")


def test_workers_read_the_same_batches(tree: Path) -> None:
    files = crops(tree)
    pack_tree(tree)
    made = [
        list(batches(d, seed=1, start=0, stop=4, batch=3, crop=16, augment=("flip",), num_workers=n))
        for d, n in ((files, 0), (crops(tree), 0), (crops(tree), 2))
    ]
    for other in made[1:]:
        for a, b in zip(made[0], other, strict=True):
            assert a.names == b.names
            assert torch.equal(a.hazy_BCHW, b.hazy_BCHW) and torch.equal(a.clear_BCHW, b.clear_BCHW)


def test_a_store_travels_to_a_fresh_process_and_maps_few_shards(tree: Path) -> None:
    pack_tree(tree, shard_bytes=1)
    store = Store(tree / "packed/dataset-mine", open_shards=3)
    for path in crops(tree).pairs.hazy:
        assert store.open(path)[5:9, 2:4].shape == (4, 2, 3)
        assert len(store._open) <= 3
    again = pickle.loads(pickle.dumps(store))
    assert not again._open
    path = tree / "hazy/0_1.png"
    assert np.array_equal(again.open(path)[3:9, 1:5], Files().open(path)[3:9, 1:5])


@pytest.mark.parametrize("change", ["newer", "longer", "added"])
def test_a_copy_that_is_older_than_the_set_is_passed_over(
    change: str, tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pack_tree(tree)
    if change == "added":
        draw(tree / "hazy/3_9.png", 44, 52, 7)
    else:
        path = tree / "hazy/1_1.png"
        before = path.stat()
        if change == "newer":
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        else:
            draw(path, 44, 52, 5)
            path.write_bytes(path.read_bytes() + b"\0")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with caplog.at_level(logging.WARNING):
        assert not is_packed(crops(tree))
    assert "is not used" in caplog.text and "dehaze-bench data prepare mine" in caplog.text
    done = pack_tree(tree)
    assert done.kept < done.shards or change == "newer"  # there the content is the same, which its SHA-256 shows
    assert done.kept == done.shards or change != "newer"
    assert is_packed(crops(tree))


def test_raw_jpeg_pictures_of_another_decoder_are_passed_over_but_png_ones_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ending, serves in (("png", True), ("jpg", False)):
        tree = make_tree(tmp_path / ending, scenes=1, ending=ending)
        with monkeypatch.context() as patch:
            patch.setattr(making, "decoder", lambda: "Pillow 1.0")
            pack_tree(tree)
        assert is_packed(crops(tree)) is serves


def test_a_damaged_shard_is_found_by_its_checksum_and_made_again(tree: Path) -> None:
    pack_tree(tree)
    folder = tree / "packed/dataset-mine"
    before = sums(folder)
    shard = folder / "shard-00001.safetensors"
    data = bytearray(shard.read_bytes())
    data[-5] ^= 1
    shard.write_bytes(data)
    held = read_manifest(folder).shards[1].pictures
    assert Store(folder).check() == [
        f"{shard} is damaged: its SHA-256 is not that of the manifest. It holds {len(held)} pictures, "
        f"{held[0].path} to {held[-1].path}."
    ]
    done = pack_tree(tree)
    assert done.kept == done.shards - 1 and len(done.damaged) == 1 and str(shard) in done.damaged[0]
    assert sums(folder) == before
    assert Store(folder).check() == []


def test_a_missing_or_shortened_shard_is_found_when_the_copy_is_opened(tree: Path) -> None:
    pack_tree(tree)
    folder = tree / "packed/dataset-mine"
    shard = folder / "shard-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(UsageError, match=r"shard-00001.* is damaged: it has \d+ bytes, not \d+\. Pack again"):
        Store(folder)
    assert not is_packed(crops(tree))
    shard.unlink()
    with pytest.raises(UsageError, match=r"shard-00001\.safetensors is missing"):
        Store(folder)
    pack_tree(tree)
    assert is_packed(crops(tree))


def test_a_shard_with_other_tensors_is_named_when_it_is_read(tree: Path) -> None:
    pack_tree(tree, shard_bytes=1)
    store = Store(tree / "packed/dataset-mine")
    save_file({"else": np.zeros(3, np.uint8)}, store.folder / store.manifest.shards[0].file)
    path = Path(store.base, store.manifest.shards[0].pictures[0].path)
    with pytest.raises(UsageError, match=r"shard-00000\.safetensors is damaged: clear/0\.png cannot be read"):
        store.open(path)[:3, :3]


def test_manifests_that_cannot_be_read_say_so(tree: Path) -> None:
    pack_tree(tree)
    folder = tree / "packed/dataset-mine"
    text = (folder / MANIFEST).read_text()
    for changed, words in (
        (text.replace('"version": 1', '"version": 9'), "has version 9, this program reads version 1"),
        (text[:90], "is damaged"),
        ("{}", "is damaged"),
        (text.replace('"complete": true', '"complete": false'), "is unfinished"),
    ):
        assert changed != text
        (folder / MANIFEST).write_text(changed)
        with pytest.raises(UsageError, match=words):
            Store(folder)
        assert not is_packed(crops(tree))
    with pytest.raises(UsageError, match="no packed copy"):
        read_manifest(tree)


def test_a_damaged_picture_ends_packing_but_what_is_done_stays(tree: Path) -> None:
    damaged = tree / "hazy/3_1.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:300])
    with pytest.raises(UsageError, match=r"3_1\.png: expected a whole PNG"):
        pack_tree(tree)
    assert not read_manifest(tree / "packed/dataset-mine").complete
    damaged.write_bytes(whole)
    assert pack_tree(tree).kept > 0
    assert is_packed(crops(tree))


def test_a_second_writer_is_turned_away(tree: Path) -> None:
    folder = tree / "packed/dataset-mine"
    with making.locked(folder), pytest.raises(JobError, match="being written by another process"):
        pack_tree(tree)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(making, "save_file", fail)
    with pytest.raises(JobError, match=r"shard-00000.*cannot be written: .*No space left.*--out"):
        pack_tree(tree)
    assert not list((tree / "packed/dataset-mine").glob("*shard*"))


def pack_slowly(tree: Path) -> None:
    """Pack as on a slow disk, where half a file is there for a while."""
    write = making.save_file

    def slowly(tensors: dict[str, np.ndarray], path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(b"half")
        time.sleep(0.01)
        write(tensors, path, metadata)

    making.save_file = slowly
    pack_tree(tree, shard_bytes=1, workers=2)


def kill_and_go_on(tree: Path, kills: int, seed: int) -> None:
    """Kill packing at random moments, then finish it, and compare with a copy that was made in one go."""
    folder = tree / "packed/dataset-mine"
    rng = random.Random(seed)
    entered = lambda: len(read_manifest(folder).shards) if (folder / MANIFEST).is_file() else 0  # noqa: E731
    for _ in range(kills):
        before = entered()
        process = multiprocessing.get_context("fork").Process(target=pack_slowly, args=(tree,))
        process.start()
        while process.is_alive() and entered() < before + 2:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not read_manifest(folder).complete
        assert not is_packed(crops(tree))
        assert not [text for shard in read_manifest(folder).shards if (text := find_damage(folder, shard))]
    kept = entered()
    done = pack_tree(tree, shard_bytes=1)
    assert done.shards > done.kept >= kept >= 2 * kills
    assert done.damaged == ()
    assert Store(folder).check() == []
    assert not list(folder.glob(".*.tmp"))
    pack_tree(tree, tree.parent / "at once", shard_bytes=1)
    assert sums(folder) == sums(tree.parent / "at once")
    assert len(sums(folder)) == done.shards
    assert is_packed(crops(tree))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts what it kills by fork")
def test_packing_that_is_killed_goes_on(tmp_path: Path) -> None:
    kill_and_go_on(make_tree(tmp_path / "set", scenes=20), kills=3, seed=3)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts what it kills by fork")
def test_packing_that_is_killed_ten_times_goes_on(tmp_path: Path) -> None:
    kill_and_go_on(make_tree(tmp_path / "set", scenes=60), kills=10, seed=1)


def test_png_copies_are_found_by_the_same_layout_and_kept(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "set", ending="jpg")
    before = whole_pictures(tree)
    paths = [*before.pairs.hazy, *(before.pairs.clear or [])]
    done = copy_as_png("testset-mine", paths, tree, tmp_path / "png")
    assert (done.pictures, done.kept) == (12, 0)
    assert_same_pairs(before, whole_pictures(tmp_path / "png"))
    record = json.loads((tmp_path / "png/testset-mine.json").read_text())
    assert record["decoder"] == before.decoder and record["complete"] and len(record["pictures"]) == 12
    target = tmp_path / "png" / record["pictures"][3]["path"]
    target.write_bytes(b"damaged")
    again = copy_as_png("testset-mine", paths, tree, tmp_path / "png", workers=2)
    assert (again.kept, again.damaged) == (11, (f"{target} was not as recorded",))
    draw(tree / "hazy/0_0.jpg", 44, 52, 77)
    assert copy_as_png("testset-mine", paths, tree, tmp_path / "png").kept == 11
    assert_same_pairs(whole_pictures(tree), whole_pictures(tmp_path / "png"))
    record["decoder"] = "Pillow 1.0"
    (tmp_path / "png/testset-mine.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"made by Pillow 1\.0.*decoders are not mixed"):
        copy_as_png("testset-mine", paths, tree, tmp_path / "png")


def test_prepare_packs_both_parts_says_what_was_there_and_trains_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "a root, with = signs"
    for scene in (1, 2):
        draw(root / f"ITS_v2/gt/{scene}.png", 40, 50, scene)
        draw(root / f"ITS_v2/hazy/{scene}_1_0.9.png", 40, 50, scene + 9)
    arguments = settings("dataset/its.yaml")
    files = FolderCrops(root=str(root), **arguments)
    assert cli.run(["data", "prepare", "its", "--root", str(root)]) == 0
    assert "dataset its: 4 pictures in 1 shards" in capsys.readouterr().out
    packed = FolderCrops(root=str(root), **arguments)
    assert is_packed(packed)
    assert_same_crops(files, packed)
    assert cli.run(["data", "prepare", "its", "--root", str(root), "--workers=2"]) == 0
    assert "1 shards were there and agree" in capsys.readouterr().out
    assert cli.run(["data", "prepare", "its", "--root", str(root), "--out", str(tmp_path / "fast")]) == 0
    assert is_packed(FolderCrops(root=str(tmp_path / "fast"), **arguments))
    assert cli.run(["data", "prepare", "its", "--root", str(root), "--png"]) == 0
    assert len(list((root / "png/ITS_v2/hazy").glob("*.png"))) == 2


def test_reading_from_a_copy_does_not_change_who_a_run_is() -> None:
    plain = ["dataset=its", "testset=sots_indoor"]
    ids = {
        identify_run(compose_run(plain + more)).id
        for more in ([], ["paths.data=/copies"], ["dataset.root=/copies/dataset-its", "testset.root=/copies"])
    }
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "needs the name of a data set"),
        (["itz"], 2, "Did you mean 'its'"),
        (["deadleaves"], 2, "no set in folders"),
        (["its", "--workers", "0"], 2, "--workers 0"),
        (["its", "--pgn"], 2, "--png"),
        (["its", "seed=3"], 2, "only dataset.KEY"),
        (["its", "--root", "nowhere"], 2, "does not exist"),
    ],
)
def test_prepare_refuses_what_cannot_be_right(
    words: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["data", "prepare", *words]) == code
    assert message in capsys.readouterr().err


def test_prepare_ends_with_one_for_a_damaged_picture(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    damaged = tree / "hazy/2_0.png"
    damaged.write_bytes(damaged.read_bytes()[:300])
    words = [f"dataset.hazy={tree}/hazy", f"dataset.clear={tree}/clear", "dataset.crop=centre10"]
    assert cli.run(["data", "prepare", "pairs", *words]) == 1
    assert "2_0.png: expected a whole PNG" in capsys.readouterr().err


def test_values_of_the_real_samples_hold_through_the_packed_path(shared: Path, tmp_path: Path) -> None:
    expected = {
        "testset": {"1400_1": 14.7852, "1400_2": 13.7121, "1401_1": 17.8650, "1401_2": 16.7268},
        "dataset": {"1_1_0.90179": 12.3738, "1_2_0.97842": 10.8796, "2_1_0.99082": 10.8990, "2_2_0.76381": 14.3897},
    }
    for role, file in (("testset", "sots_indoor"), ("dataset", "its")):
        arguments = settings(f"{role}/{file}.yaml")
        files = FolderPairs(root=str(shared / "samples"), **arguments)
        pairs, folder = files.pairs, tmp_path / f"{role}-{file}"
        base = pairs.hazy[0].parents[1]
        pack(file, folder, base, pairs.layout, None, pairs.names, pairs.hazy, pairs.clear, keep_jpeg=False)
        packed = FolderPairs(root=str(folder), **arguments)
        assert is_packed(packed)
        assert_same_pairs(files, packed)
        found = {}
        for pair in (packed[i] for i in range(len(packed))):
            error = (pair.hazy.double() - pair.clear.double()).square().mean()
            found[pair.name] = float(-10 * error.log10())
        assert found == pytest.approx(expected[role], abs=1e-4)
    arguments = settings("dataset/its.yaml")
    one = FolderCrops(root=str(shared / "samples"), **arguments)
    assert_same_crops(one, FolderCrops(root=str(tmp_path / "dataset-its"), **arguments), 256)


def both_ways(root: Path, folder: Path, **arguments: Any) -> tuple[FolderPairs, FolderPairs]:
    """Return a test set read from its files and from a packed copy of them."""
    files = FolderPairs(root=str(root), **arguments)
    pairs = files.pairs
    assert pairs.clear is not None
    base = common_folder([*pairs.hazy, *pairs.clear])
    pack(files.name, folder, base, pairs.layout, None, pairs.names, pairs.hazy, pairs.clear, keep_jpeg=False)
    packed = FolderPairs(root=str(folder), **arguments)
    assert is_packed(packed) and not is_packed(files)
    return files, packed


@pytest.mark.slow
def test_every_measured_convention_has_the_same_value_through_the_packed_path(shared: Path, tmp_path: Path) -> None:
    """Hazy 1400_1 and the published output for 1400_2, each against the clear picture without its 10-px rim."""
    sots = shared / "samples/sots_indoor"
    output = {"name": "ffanet", "hazy": str(sots / "output_ffanet"), "clear": str(sots / "gt"), "match": "prefix"}
    places = [
        ("1400_1", both_ways(shared / "samples", tmp_path / "a", **settings("testset/sots_indoor.yaml"))),
        ("1400_2_FFA", both_ways(shared / "samples", tmp_path / "b", **output, crop="centre10")),
    ]
    for column, (name, sets) in enumerate(places):
        one, two = (found[found.pairs.names.index(name)] for found in sets)
        for convention, published in REAL.items():
            values = [CONVENTIONS[convention](pair.hazy, pair.clear) for pair in (one, two)]
            assert values[0] == values[1], convention
            digits = 4 if convention.startswith("psnr") else 5
            units = 1.5 if convention == "ssim_gauss3d" else 0.7
            assert values[1] == pytest.approx(published[column], abs=units * 10**-digits), convention


@pytest.mark.slow
def test_every_protocol_has_the_same_values_through_the_packed_path(shared: Path, tmp_path: Path) -> None:
    sets = both_ways(shared / "samples", tmp_path / "copy", **settings("testset/sots_indoor.yaml"))
    for name in NAMES:
        protocol = preset(name)
        one, two = (protocol.measure(*protocol.prepare(pair.hazy, pair.clear)) for pair in (sets[0][3], sets[1][3]))
        assert one == two, name

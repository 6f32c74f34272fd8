"""Every known set in every folder shape: a miniature tree is loaded, verified and packed, and planted faults are named.

The usual shape of each part and one shape of each keeper run with the fast tests, all others with the slow ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dehaze_bench.data import FolderCrops, FolderPairs
from dehaze_bench.data.folders import Pairs, scene_in
from dehaze_bench.data.inspection import inspect
from dehaze_bench.data.inspection_files import Memory, Workers
from dehaze_bench.data.inspection_report import Finding, Report, to_text
from dehaze_bench.data.inspection_subjects import Subject, gather
from dehaze_bench.data.known import CLEAR_FOLDERS, HAZY_FOLDERS, KNOWN
from dehaze_bench.data.store_finding import common_folder
from dehaze_bench.data.store_making import pack
from tests.data.test_layouts import load
from tests.data.trees import MARGIN, Tree, grow, paint_scene, save, trees, veil

HEIGHT, WIDTH = 96, 128
USUAL = {(tree.name, tree.role): tree for tree in reversed(trees())}
FAST = list({tree.shape.keeper: tree for tree in trees()}.values())
FAST = [*USUAL.values(), *(tree for tree in FAST if tree not in USUAL.values())]
PAIRED = [tree for tree in USUAL.values() if tree.shape.clear]
# The part under the same root in which a scene must not be found again.
OTHER = {"its": "sots_indoor", "sots_indoor": "its", "ots": "sots_outdoor", "sots_outdoor": "ots"}


def subject_of(tree: Tree, root: Path) -> Subject:
    part = KNOWN[tree.name].part(tree.role)
    assert part is not None
    arguments = {
        "name": tree.name,
        "root": str(root),
        "folders": [tree.shape.base],
        "hazy": list(HAZY_FOLDERS),
        "clear": list(CLEAR_FOLDERS) if part.truth else None,
        "match": "auto",
        "role": tree.role,
        "split": None,
    }
    return gather(tree.name, tree.role, arguments, MARGIN)


def look(root: Path, *several: Tree) -> Report:
    with Workers(1, Memory(None)) as pool:
        return inspect([subject_of(tree, root) for tree in several], str(root), pool, sample=0)


def check_tree(tree: Tree, root: Path) -> None:
    """Load, verify and pack one tree, and read the packed copy alone."""
    names = grow(root, tree, 48, 64)
    found = load(tree, root)
    assert found.pairs.names == names

    report = look(root, tree)
    assert report.summaries[0].pictures == len(names)
    # The trees put one haze over all hazy pictures of a scene, and leave the last picture out of a listing.
    expected = {"duplicate"} | ({"missing partner"} if tree.shape.listing else set())
    assert {finding.kind for finding in report.findings} <= expected, to_text(report)
    copies = [finding for finding in report.findings if finding.kind == "duplicate"]
    assert all(finding.text.startswith("hazy pictures are the same") for finding in copies), to_text(report)

    out, pairs = root / "copy", found.pairs
    base = common_folder([*pairs.hazy, *(pairs.clear or [])])
    keep_jpeg = tree.role == "train"
    pack(tree.name, out, base, pairs.layout, None, pairs.names, pairs.hazy, pairs.clear, keep_jpeg=keep_jpeg)
    packed = load(tree, out)
    assert packed.layout.startswith("packed ") and packed.pairs.names == names
    for one, two in zip(pictures(found), pictures(packed), strict=True):
        assert np.array_equal(one, two)


def pictures(found: FolderPairs | FolderCrops) -> list[np.ndarray]:
    """Return the first and the last pair, or a crop of both."""
    if isinstance(found, FolderCrops):
        samples = [found.sample(i, 32, np.random.default_rng(i)) for i in (0, len(found) - 1)]
        return [image for sample in samples for image in (sample.hazy, sample.clear)]
    pairs = [found[i] for i in (0, len(found) - 1)]
    return [image.numpy() for pair in pairs for image in (pair.hazy, pair.clear) if image is not None]


@pytest.mark.parametrize("tree", FAST, ids=str)
def test_every_layout_is_loaded_verified_and_packed(tree: Tree, tmp_path: Path) -> None:
    check_tree(tree, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", sorted(USUAL), ids="-".join)
def test_every_other_shape_is_too(part: tuple[str, str], tmp_path: Path) -> None:
    others = [tree for tree in trees() if (tree.name, tree.role) == part and tree not in FAST]
    for number, tree in enumerate(others):
        check_tree(tree, tmp_path / str(number))


def scenes_of(pairs: Pairs) -> list[int]:
    """Return the first pair of every scene."""
    firsts: dict[str, int] = {}
    for index, (name, path) in enumerate(zip(pairs.names, pairs.clear or pairs.hazy, strict=True)):
        firsts.setdefault(scene_in(name, path.stem), index)
    return list(firsts.values())


def hazy_of(pairs: Pairs, index: int) -> set[Path]:
    """Return the hazy pictures that share the clear one of a pair."""
    assert pairs.clear is not None
    return {hazy for hazy, clear in zip(pairs.hazy, pairs.clear, strict=True) if clear == pairs.clear[index]}


def named(finding: Finding) -> set[Path]:
    """Return the files that a finding names first in each line."""
    return {Path(line.split(" with ")[0].split(" and ")[0].split(": ")[0]) for line in finding.files}


def by_kind(report: Report) -> dict[str, Finding]:
    kinds = [finding.kind for finding in report.findings]
    assert len(kinds) == len(set(kinds)), to_text(report)
    return {finding.kind: finding for finding in report.findings}


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("tree", PAIRED, ids=str)
def test_damaged_lone_and_misshapen_pictures_are_named(tree: Tree, tmp_path: Path) -> None:
    grow(tmp_path, tree, HEIGHT, WIDTH, 5, paint_scene)
    pairs = load(tree, tmp_path).pairs
    assert pairs.clear is not None
    damaged, lone, misshapen = scenes_of(pairs)[:3]
    truncate(pairs.hazy[damaged])
    without = hazy_of(pairs, lone)
    pairs.clear[lone].unlink()
    height, width = pixels(pairs.clear[misshapen]).shape[:2]
    save(pairs.clear[misshapen], paint_scene("another", height, width + 7))

    found = by_kind(look(tmp_path, tree))
    assert set(found) == {"damaged", "missing partner", "sizes"}, found
    assert named(found["damaged"]) == {pairs.hazy[damaged]}
    assert named(found["missing partner"]) == without
    assert named(found["sizes"]) == hazy_of(pairs, misshapen)
    assert all(str(pairs.clear[misshapen]) in line for line in found["sizes"].files)


@pytest.mark.parametrize("tree", PAIRED, ids=str)
def test_wrong_crops_and_swapped_pairs_are_named(tree: Tree, tmp_path: Path) -> None:
    grow(tmp_path, tree, HEIGHT, WIDTH, 5, paint_scene)
    pairs = load(tree, tmp_path).pairs
    assert pairs.clear is not None
    cropped, one, two = scenes_of(pairs)[:3]
    margin = MARGIN if tree.name == "sots_indoor" else 0
    clear = pixels(pairs.clear[cropped])
    # Ten pixels up and to the left of where it belongs.
    seen = clear[:HEIGHT, :WIDTH] if margin else np.roll(clear, (10, 10), (0, 1))
    save(pairs.hazy[cropped], veil(seen, 1))
    swapped = hazy_of(pairs, one) | hazy_of(pairs, two)
    content = {index: pairs.clear[index].read_bytes() for index in (one, two)}
    pairs.clear[one].write_bytes(content[two])
    pairs.clear[two].write_bytes(content[one])

    report = look(tmp_path, tree)
    found = by_kind(report)
    # With a clear copy per hazy picture the swapped ones repeat, under one name, what is there under another.
    copied = len(scenes_of(pairs)) < len(pairs.names) == len(set(pairs.clear))
    assert set(found) - ({"duplicate"} if copied else set()) == {"misaligned", "swapped pair"}, to_text(report)
    assert named(found["misaligned"]) == {pairs.hazy[cropped]}
    place = 0 if margin else -10
    assert f"lies at row {place}, column {place} of the clear one" in found["misaligned"].text
    assert named(found["swapped pair"]) == swapped
    for index in (one, two):
        lines = [line for line in found["swapped pair"].files if line.startswith(f"{pairs.hazy[index]} ")]
        assert len(lines) == 1
        assert Path(lines[0].split("but it shows the scene of ")[1]).read_bytes() == content[index]


def counterpart(tree: Tree) -> Tree | None:
    """Return the test part for a training part and the other way round, of the set itself or of its sibling."""
    role = "test" if tree.role == "train" else "train"
    found = USUAL.get((OTHER.get(tree.name, tree.name), role))
    return found if found is not None and found.shape.clear else None


@pytest.mark.parametrize("tree", PAIRED, ids=str)
def test_a_scene_in_training_and_test_is_named(tree: Tree, tmp_path: Path) -> None:
    other = counterpart(tree)
    grow(tmp_path, tree, HEIGHT, WIDTH, 3, paint_scene)
    here = load(tree, tmp_path).pairs
    index = scenes_of(here)[-1]
    assert here.clear is not None
    if other is None:  # a test without training, or the other way round: the scene is planted twice in the part
        twin = scenes_of(here)[0]
        plant(here, twin, pixels(here.clear[index]))
        finding = by_kind(look(tmp_path, tree))["duplicate"]
        assert {Path(path) for path in finding.files[0].split(" = ")} == {here.clear[twin], here.clear[index]}
        return
    if not (tmp_path / other.shape.base).exists() or not other.shape.whole:
        # Of a set that lies whole both parts are there already.
        grow(tmp_path, other, HEIGHT, WIDTH, 3, lambda name, h, w: paint_scene(f"other {name}", h, w))
    there = load(other, tmp_path).pairs
    twin = scenes_of(there)[-1]
    assert there.clear is not None
    cut = MARGIN if tree.name == "sots_indoor" else 0
    clear = pixels(here.clear[index])
    clear = clear[cut : clear.shape[0] - cut, cut : clear.shape[1] - cut]
    plant(there, twin, np.pad(clear, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))) if "indoor" in other.name else clear)

    report = look(tmp_path, tree, other)
    found = by_kind(report)
    assert set(found) == {"test scene in training"}, to_text(report)
    files = found["test scene in training"].files
    assert {Path(path) for path in files[0].split(" = ")} == {here.clear[index], there.clear[twin]}


def plant(pairs: Pairs, index: int, clear: np.ndarray) -> None:
    """Put a clear picture, and haze over it, in the place of a pair and of those that share its clear one."""
    assert pairs.clear is not None
    save(pairs.clear[index], clear)
    height, width = pixels(pairs.hazy[index]).shape[:2]
    top, left = (clear.shape[0] - height) // 2, (clear.shape[1] - width) // 2
    for number, hazy in enumerate(sorted(hazy_of(pairs, index))):
        save(hazy, veil(clear[top : top + height, left : left + width], number + 15))


@pytest.mark.parametrize("tree", [tree for tree in USUAL.values() if not tree.shape.clear], ids=str)
def test_without_truth_damage_and_double_scenes_are_named(tree: Tree, tmp_path: Path) -> None:
    grow(tmp_path, tree, HEIGHT, WIDTH, 5, paint_scene)
    pairs = load(tree, tmp_path).pairs
    truncate(pairs.hazy[0])
    save(pairs.hazy[1], pixels(pairs.hazy[2]))
    found = by_kind(look(tmp_path, tree))
    assert set(found) == {"damaged", "duplicate"}
    assert named(found["damaged"]) == {pairs.hazy[0]}
    assert found["duplicate"].files == (f"{pairs.hazy[1]} = {pairs.hazy[2]}",)


def test_pictures_of_the_trees_are_not_alike() -> None:
    """Else a swapped pair or a double scene would prove nothing."""
    one, two = (paint_scene(name, HEIGHT, WIDTH).astype(float) for name in ("1", "2"))
    assert np.abs(one - two).mean() > 20

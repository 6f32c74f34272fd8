"""`data info`: what is found, how it compares with the published counts, and which version it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dehaze_bench.data.known import KNOWN, Part
from dehaze_bench.data.pairs import decoder
from dehaze_bench.data.survey import survey
from dehaze_bench.data.version import tell_version
from dehaze_bench.datasets.info import run
from dehaze_bench.errors import UsageError
from tests.data.trees import Tree, grow, picture_of, save


def _tree(name: str, role: str, keeper: str) -> Tree:
    part = KNOWN[name].part(role)
    assert part is not None
    return Tree(name, role, next(s for s in part.shapes if s.keeper == keeper))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, role, keeper in (
        ("its", "train", "DehazeFormer"),
        ("ots", "train", "AdaIR"),
        ("sots_outdoor", "test", "gUNet"),
        ("rtts", "test", "official"),
    ):
        grow(tmp_path, _tree(name, role, keeper))
    return tmp_path


def test_sets_are_found_with_the_habit_they_are_kept_in(root: Path) -> None:
    found = {one.name: one for one in survey(root)}
    assert {name: one.keeper for name, one in found.items()} == {
        "its": "DehazeFormer",
        "ots": "AdaIR",
        "sots_outdoor": "gUNet",
        "rtts": "official",
    }
    assert (found["ots"].hazy, found["ots"].clear) == (3, 2)  # the list leaves one out
    assert found["its"].hazy_sizes == {(32, 24): 4}
    assert found["sots_outdoor"].formats == {".jpg": 3, ".png": 2}
    assert found["rtts"].clear == 0
    assert not any(one.complete for one in found.values())
    assert any("1 of its 2 scenes are in sots_outdoor too" in text for text in found["ots"].remarks)


def test_a_set_in_two_places_is_found_twice_and_a_damaged_one_says_so(root: Path) -> None:
    grow(root, _tree("its", "train", "gUNet"))
    [clear] = (root / "ITS/GT").glob("1.png")
    clear.unlink()
    two = {one.keeper: one for one in survey(root, ["its"])}
    assert set(two) == {"gUNet", "DehazeFormer"}
    assert any("2 of 4 pictures have no clear one" in text for text in two["gUNet"].remarks)
    assert two["DehazeFormer"].remarks == []
    for path in (root / "RESIDE-IN/train/hazy").iterdir():
        path.write_bytes(b"")
    one = next(each for each in survey(root, ["its"]) if each.keeper == "DehazeFormer")
    assert one.hazy_sizes == {}
    assert any("4 of 4 sampled files cannot be read. First: " in text for text in one.remarks)


def test_published_counts_are_told_from_others(tmp_path: Path) -> None:
    for number in range(10):
        save(tmp_path / f"HSTS/synthetic/synthetic/{number}.jpg", picture_of(str(number), 24, 32))
        save(tmp_path / f"HSTS/synthetic/original/{number}.jpg", picture_of(str(number), 24, 32))
    [one] = survey(tmp_path)
    assert (one.name, one.complete, one.hazy) == ("hsts", True, 10)
    (tmp_path / "HSTS/synthetic/synthetic/3.jpg").unlink()
    assert not survey(tmp_path)[0].complete


@pytest.mark.parametrize(
    ("name", "counts", "growth", "expected"),
    [
        ("its", (13_990, 1_399, 1_399), 0, "v2"),
        ("its", (13_990, 1_399, 1_399), None, "v2"),
        ("its", (110_000, 1_399, 1_399), 20, "v0"),
        ("its", (100_000, 1_399, 1_399), None, "v0"),
        ("its", (40, 4, 4), 20, "v0"),
        ("its", (40, 4, 4), 0, "v2"),
        ("its", (40, 4, 4), None, "v2 or v0"),
        ("its", (13_990, 13_990, 1_399), 0, "v2"),
        ("its", (40, 4, 4), 7, "none of v2, v0"),
        ("ots", (72_135, 2_061, 2_061), None, "beta"),
        ("ots", (313_950, 8_970, 8_970), None, "v0"),
        ("ots", (72_135, 72_135, 2_061), 0, "beta"),
        ("ots", (72_136, 2_061, 2_061), None, "v0"),
        ("ots", (70_000, 2_000, 2_000), None, "beta or v0"),
        ("ots", (400_000, 9_000, 9_000), None, "none of beta, v0"),
        ("sots_indoor", (7, 1, 1), 20, ""),
    ],
)
def test_versions_are_told_apart(name: str, counts: tuple[int, int, int], growth: int | None, expected: str) -> None:
    part = KNOWN[name].train or KNOWN[name].test
    assert isinstance(part, Part)
    assert tell_version(part, *counts, growth) == expected


def test_its_v0_is_told_by_its_larger_clear_pictures(tmp_path: Path) -> None:
    picture = picture_of("1", 44, 52)
    save(tmp_path / "ITS/clear/1.png", picture)
    save(tmp_path / "ITS/hazy/1_1_0.9.png", np.ascontiguousarray(picture[10:-10, 10:-10]))
    assert survey(tmp_path)[0].version == "v0"


def test_the_published_facts_are_consistent() -> None:
    for name, known in KNOWN.items():
        assert known.train or known.test, name
        for part in (known.train, known.test):
            if part is not None:
                assert part.shapes, name
                assert part.naming, name
                assert all((v.clear > 0) == part.truth for v in part.versions), name
                assert all(bool(shape.clear) == part.truth for shape in part.shapes), name
                assert not any(s.whole for s in part.shapes) or known.splits, name
        for split, ids in known.splits:
            assert ids["train"][1] is not None, (name, split)
            assert ids["train"][1] < ids["test"][0], (name, split)
    assert 1_399 * 10 == 13_990
    assert 2_061 * 35 == 72_135
    assert 8_970 * 35 == 313_950


def test_the_verb_prints_text_and_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--root", str(root)]) == 0
    text = capsys.readouterr().out
    assert f"decoder  {decoder()}" in text
    assert "its (train): RESIDE ITS, indoor training set, version v2" in text
    assert "4 hazy and 4 clear, NOT as published: 13,990 hazy and 1,399 clear (v2) or 110,000" in text
    assert "none: a set without ground truth" in text
    assert run(["its", "haze4k", "--json", f"--root={root}"]) == 1
    plain = json.loads(capsys.readouterr().out)
    assert plain["absent"] == ["haze4k"]
    assert plain["decoder"] == decoder()
    [its] = plain["found"]
    assert (its["name"], its["part"], its["layout_of"], its["version"]) == ("its", "train", "DehazeFormer", "v2")
    assert its["hazy"]["sizes"] == [{"width": 32, "height": 24, "of_sample": 4}]
    assert its["published"][0] == {"version": "v2", "hazy": 13_990, "clear": 1_399}
    assert its["complete"] is False


def test_the_root_comes_from_the_environment(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEHAZE_DATA", str(root))
    assert run(["rtts"]) == 0
    assert "rtts (test)" in capsys.readouterr().out


def test_requests_that_cannot_be_right_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"data set 'itz' is not known. Did you mean 'its'"):
        run(["itz", "--root", str(tmp_path)])
    with pytest.raises(UsageError, match=r"data root .*nowhere does not exist"):
        run(["--root", str(tmp_path / "nowhere")])
    with pytest.raises(UsageError, match=r"does not know '--html'"):
        run(["--html", "--root", str(tmp_path)])
    assert run(["--root", str(tmp_path)]) == 1
    assert "No known data set in any known layout" in capsys.readouterr().out

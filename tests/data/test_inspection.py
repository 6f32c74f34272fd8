from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dehaze_bench.data.folders import Pairs
from dehaze_bench.data.inspection import inspect
from dehaze_bench.data.inspection_alignment import align, to_grey
from dehaze_bench.data.inspection_files import Memory, Workers
from dehaze_bench.data.inspection_report import Finding, Report, to_html, to_json, to_text
from dehaze_bench.data.inspection_subjects import Subject, describe_edition, gather
from dehaze_bench.data.known import CLEAR_FOLDERS, HAZY_FOLDERS, KNOWN
from dehaze_bench.data.layouts import FolderPairs
from dehaze_bench.datasets import verify
from dehaze_bench.errors import UsageError
from tests.data.trees import paint, save

HEIGHT, WIDTH, MARGIN = 120, 160, 10
FOLDERS = {"its": "ITS/train", "sots_indoor": "SOTS/indoor", "ots": "OTS", "sots_outdoor": "SOTS/outdoor"}


def veil(clear: np.ndarray, beta: float) -> np.ndarray:
    """Put haze over a picture whose depth grows upwards."""
    t = np.exp(-beta * np.linspace(1, 0.2, clear.shape[0]))[:, None, None]
    return np.rint(clear * t + 0.85 * 255 * (1 - t)).astype(np.uint8)


def plant(root: Path, name: str, scenes: list[int], margin: int = 0, suffix: str = ".png") -> Path:
    """Write a part with two hazy pictures per scene and return its folder."""
    base = root / FOLDERS[name]
    for scene in scenes:
        clear = paint(scene, HEIGHT + 2 * margin, WIDTH + 2 * margin)
        save(base / "clear" / f"{scene:04}{suffix}", clear)
        for k, beta in ((1, 0.8), (2, 1.5)):
            inner = clear[margin : margin + HEIGHT, margin : margin + WIDTH]
            save(base / "hazy" / f"{scene:04}_{k}_0.85{suffix}", veil(inner, beta))
    return base


def look(root: Path, *names: str, workers: int = 1, memory: Path | None = None, sample: int = 0) -> Report:
    subjects = [
        gather(name, _role(name), arguments(root, name), 10 if "in" in name or name == "its" else 0) for name in names
    ]
    with Workers(workers, Memory(memory)) as pool:
        return inspect(subjects, str(root), pool, sample)


def _role(name: str) -> str:
    return "train" if KNOWN[name].train else "test"


def arguments(root: Path, name: str) -> dict:
    return {
        "name": name,
        "root": str(root),
        "folders": [FOLDERS[name]],
        "hazy": list(HAZY_FOLDERS),
        "clear": list(CLEAR_FOLDERS),
        "match": "auto",
        "role": _role(name),
        "split": None,
    }


def only(report: Report, kind: str) -> Finding:
    """Return the one finding of a report, which must be of that kind."""
    assert [finding.kind for finding in report.findings] == [kind], to_text(report)
    return report.findings[0]


@pytest.fixture
def sots(tmp_path: Path) -> Path:
    return plant(tmp_path, "sots_indoor", [1400, 1401, 1402, 1403], MARGIN)


def test_a_whole_set_has_no_findings(tmp_path: Path, sots: Path) -> None:
    plant(tmp_path, "its", [1, 2, 3])
    report = look(tmp_path, "its", "sots_indoor")
    assert report.findings == []
    first, second = report.summaries
    assert first.alignment == "6 of 6 pairs compared: 6 aligned"
    assert second.alignment == "8 of 8 pairs compared: 8 aligned"
    assert second.sizes == ("hazy 160x120 (8)", "clear 180x140 (4)")
    assert report.decoder.startswith("Pillow ") and "libjpeg" in report.decoder
    assert report.looked > 0
    assert report.verdict == f"nothing wrong found ({report.looked} looks, 0 more remembered)"
    report.looked, report.findings = 1, [Finding("damaged", "its", "")]
    assert report.verdict == "1 finding (1 look, 0 more remembered)"


@pytest.mark.parametrize("kept", [0.5, 0.999])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str, kept: float) -> None:
    base = plant(tmp_path, "ots", [25, 51], suffix=suffix)
    damaged = base / "hazy" / f"0051_2_0.85{suffix}"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: int(kept * len(whole))])
    finding = only(look(tmp_path, "ots"), "damaged")
    assert len(finding.files) == 1
    assert finding.files[0].startswith(f"{damaged}: ")


def test_a_missing_end_is_found_though_the_decoder_forgives_it(tmp_path: Path) -> None:
    base = plant(tmp_path, "ots", [25, 51])
    damaged = base / "clear" / "0025.png"
    damaged.write_bytes(damaged.read_bytes()[:-12])  # all pixels are there, the end chunk is not
    Image.open(damaged).load()
    assert "without the end marker of a PNG" in only(look(tmp_path, "ots"), "damaged").files[0]


def test_missing_partners_are_named_on_both_sides_and_the_rest_is_inspected(tmp_path: Path, sots: Path) -> None:
    (sots / "clear/1401.png").unlink()
    for k in (1, 2):
        (sots / f"hazy/1403_{k}_0.85.png").unlink()
    report = look(tmp_path, "sots_indoor")
    assert {finding.kind for finding in report.findings} == {"missing partner"}
    named = sorted(Path(file).name for finding in report.findings for file in finding.files)
    assert named == ["1401_1_0.85.png", "1401_2_0.85.png", "1403.png"]
    assert report.summaries[0].alignment == "4 of 4 pairs compared: 4 aligned"


def test_a_scene_with_fewer_hazy_pictures_is_named(tmp_path: Path) -> None:
    base = plant(tmp_path, "its", [1, 2, 3, 4, 5])
    for scene in (1, 2, 3, 4, 5):
        for k in (3, 4, 5):
            save(base / f"hazy/{scene:04}_{k}_0.85.png", veil(paint(scene, HEIGHT, WIDTH), 0.25 * k))
    (base / "hazy/0003_4_0.85.png").unlink()
    finding = only(look(tmp_path, "its"), "missing partner")
    assert finding.files == ("scene 3",)
    assert "fewer than 5 hazy pictures" in finding.text


def test_sizes_that_follow_no_rule_name_both_files(tmp_path: Path, sots: Path) -> None:
    save(sots / "clear/1402.png", paint(1402, HEIGHT + 20, WIDTH + 18))
    finding = only(look(tmp_path, "sots_indoor"), "sizes")
    assert "hazy 160x120, clear 178x140" in finding.text
    assert len(finding.files) == 2 and all("1402_" in file and "1402.png" in file for file in finding.files)


@pytest.mark.parametrize(("top", "left", "place"), [(0, 0, "top-left"), (20, 20, "bottom-right"), (10, 9, "")])
def test_a_wrong_crop_is_named_with_its_place(tmp_path: Path, sots: Path, top: int, left: int, place: str) -> None:
    clear = paint(1401, HEIGHT + 20, WIDTH + 20)
    save(sots / "hazy/1401_1_0.85.png", veil(clear[top : top + HEIGHT, left : left + WIDTH], 0.8))
    finding = only(look(tmp_path, "sots_indoor"), "misaligned")
    assert f"lies at row {top}, column {left}" in finding.text and "expected row 10, column 10" in finding.text
    assert place in finding.text
    assert len(finding.files) == 1 and "1401_1" in finding.files[0]


def test_truth_cut_at_the_corner_beforehand_is_off_by_ten(tmp_path: Path, sots: Path) -> None:
    for path in (sots / "clear").iterdir():
        save(path, np.asarray(Image.open(path))[:HEIGHT, :WIDTH])
    finding = only(look(tmp_path, "sots_indoor"), "misaligned")
    assert "8 of 8" in finding.text and "row 10, column 10" in finding.text and "top-left" in finding.text


def test_resized_truth_is_named_with_its_scale(tmp_path: Path) -> None:
    base = tmp_path / FOLDERS["sots_indoor"]
    for scene in (1400, 1401):
        clear = Image.fromarray(paint(scene, 480, 640))
        save(base / f"hazy/{scene}_1.png", veil(np.asarray(clear)[10:-10, 10:-10], 0.8))
        save(base / f"clear/{scene}.png", np.asarray(clear.resize((620, 460), Image.Resampling.BICUBIC)))
    finding = only(look(tmp_path, "sots_indoor"), "resized")
    assert len(finding.files) == 2
    assert "about 97 % of its width and 96 % of its height" in finding.text


@pytest.mark.parametrize("sample", [0, 1])
def test_swapped_pairs_are_named_with_the_right_partner(tmp_path: Path, sots: Path, sample: int) -> None:
    """With a sample of one, the hashes must lead to the pairs that are to be compared."""
    one, two, aside = (sots / "clear" / name for name in ("1401.png", "1402.png", "aside"))
    one.rename(aside)
    two.rename(one)
    aside.rename(two)
    finding = only(look(tmp_path, "sots_indoor", sample=sample), "swapped pair")
    assert len(finding.files) == 4
    assert all(("1401_" in file) == file.endswith("shows the scene of " + str(two)) for file in finding.files)


def test_a_stranger_is_found_though_no_partner_is_there(tmp_path: Path, sots: Path) -> None:
    save(sots / "clear/1402.png", paint(77, HEIGHT + 20, WIDTH + 20))
    assert len(only(look(tmp_path, "sots_indoor"), "unrelated pair").files) == 2


def test_exchanged_folders_are_found(tmp_path: Path) -> None:
    base = plant(tmp_path, "ots", [25, 51, 99])
    for scene in (25, 51, 99):
        clear = (base / f"clear/{scene:04}.png").read_bytes()
        for k in (1, 2):
            hazy = base / f"hazy/{scene:04}_{k}_0.85.png"
            if k == 2:
                shutil.copy(hazy, base / f"clear/{scene:04}.png")
                hazy.unlink()
            else:
                hazy.write_bytes(clear)
    assert len(only(look(tmp_path, "ots"), "exchanged pair").files) == 3


def test_pairs_without_haze_and_equal_hazy_pictures_are_found(tmp_path: Path, sots: Path) -> None:
    clear = np.asarray(Image.open(sots / "clear/1400.png"))[10:-10, 10:-10]
    save(sots / "clear/1400.png", clear)
    save(sots / "hazy/1400_1_0.85.png", clear)
    shutil.copy(sots / "hazy/1403_1_0.85.png", sots / "hazy/1403_2_0.85.png")
    found = {finding.kind: finding.files for finding in look(tmp_path, "sots_indoor").findings}
    assert found == {
        "no haze": (str(sots / "hazy/1400_1_0.85.png"),),
        "duplicate": (f"{sots / 'hazy/1403_1_0.85.png'} = {sots / 'hazy/1403_2_0.85.png'}",),
    }


def test_a_test_scene_in_training_is_found_across_crops(tmp_path: Path, sots: Path) -> None:
    """ITS keeps the inner part of what SOTS keeps with its rim."""
    base = plant(tmp_path, "its", [1, 2, 3])
    clear = paint(1402, HEIGHT + 20, WIDTH + 20)[10:-10, 10:-10]
    save(base / "clear/0002.png", clear)
    for k, beta in ((1, 0.7), (2, 1.3)):
        save(base / f"hazy/0002_{k}_0.85.png", veil(clear, beta))
    finding = only(look(tmp_path, "its", "sots_indoor"), "test scene in training")
    assert finding.where == "its (train) and sots_indoor (test)"
    assert finding.files == (f"{base / 'clear/0002.png'} = {sots / 'clear/1402.png'}",)


def test_a_scene_under_two_ids_is_found_through_jpeg(tmp_path: Path) -> None:
    base = plant(tmp_path, "ots", [25, 51, 99], suffix=".jpg")
    clear = np.asarray(Image.open(base / "clear/0025.jpg"))
    save(base / "clear/0099.jpg", clear)
    for k, beta in ((1, 0.7), (2, 1.3)):
        save(base / f"hazy/0099_{k}_0.85.jpg", veil(clear, beta))
    finding = only(look(tmp_path, "ots"), "duplicate")
    assert finding.files == (f"{base / 'clear/0025.jpg'} = {base / 'clear/0099.jpg'}",)


def test_one_clear_copy_per_hazy_picture_is_no_duplicate(tmp_path: Path, sots: Path) -> None:
    for path in sorted((sots / "hazy").iterdir()):
        shutil.copy(sots / "clear" / f"{path.name[:4]}.png", sots / "clear" / path.name)
    for scene in (1400, 1401, 1402, 1403):
        (sots / f"clear/{scene}.png").unlink()
    report = look(tmp_path, "sots_indoor")
    assert report.findings == []
    assert report.summaries[0].scenes == 4


def test_the_published_overlap_of_ids_is_a_note_and_no_finding(tmp_path: Path) -> None:
    plant(tmp_path, "ots", [25, 51, 99], suffix=".jpg")
    plant(tmp_path, "sots_outdoor", [1, 51])
    report = look(tmp_path, "ots", "sots_outdoor")
    assert report.findings == []
    note = next(note for note in report.notes if note.kind == "scene ids in both")
    assert note.text.startswith("1 of 2 scenes of sots_outdoor have an id that ots has too")
    assert "exclude_test_scenes" in note.text and note.files == ("scene 51",)


def test_blank_pictures_are_no_finding_but_a_note(tmp_path: Path) -> None:
    base = plant(tmp_path, "ots", [25, 51])
    save(base / "clear/0025.png", np.full((HEIGHT, WIDTH, 3), 40, np.uint8))
    save(base / "hazy/0025_1_0.85.png", np.full((HEIGHT, WIDTH, 3), 140, np.uint8))
    save(base / "hazy/0025_2_0.85.png", np.full((HEIGHT, WIDTH, 3), 160, np.uint8))
    report = look(tmp_path, "ots")
    assert report.findings == []
    assert "alignment unknown" in [note.kind for note in report.notes]


def test_an_inspection_is_remembered_by_size_and_time(tmp_path: Path, sots: Path) -> None:
    memory = tmp_path / "memory" / "one.jsonl"
    first = look(tmp_path, "sots_indoor", memory=memory)
    again = look(tmp_path, "sots_indoor", memory=memory)
    assert first.looked > 0 and (again.looked, again.remembered) == (0, first.looked)
    assert again.summaries == first.summaries
    os.utime(sots / "hazy/1400_1_0.85.png", ns=(1, 1))
    assert look(tmp_path, "sots_indoor", memory=memory).looked == 2  # the file, and its pair
    damaged = sots / "hazy/1402_1_0.85.png"
    damaged.write_bytes(damaged.read_bytes()[:500])
    for _ in range(2):  # a failure is looked at again
        assert look(tmp_path, "sots_indoor", memory=memory).looked == 1


def test_a_memory_cut_off_by_a_kill_is_read_and_goes_on(tmp_path: Path, sots: Path) -> None:
    memory = tmp_path / "one.jsonl"
    num = look(tmp_path, "sots_indoor", memory=memory).looked
    text = memory.read_text()
    memory.write_text(text[: int(0.6 * len(text))])
    report = look(tmp_path, "sots_indoor", memory=memory)
    assert 0 < report.looked < num and report.looked + report.remembered == num
    assert look(tmp_path, "sots_indoor", memory=memory).looked == 0


def test_processes_find_what_one_finds(tmp_path: Path, sots: Path) -> None:
    (sots / "hazy/1401_1_0.85.png").write_bytes(b"no picture")
    one, two = (look(tmp_path, "sots_indoor", workers=num) for num in (1, 2))
    assert to_json(one) == to_json(two)
    only(two, "damaged")


@pytest.mark.parametrize(
    ("name", "num", "clear", "size", "expected"),
    [
        ("its", 13_990, 1_399, (620, 460), "v2: 13,990, as published"),
        ("its", 110_000, 1_399, (640, 480), "v0: 110,000, as published"),
        ("its", 20_000, 1_399, (640, 480), "by count and size v0"),
        ("ots", 72_135, 2_061, (550, 413), "beta: 72,135, as published"),
        ("ots", 313_950, 8_970, (550, 413), "v0: 313,950, as published"),
        ("ots", 50_000, 2_061, (550, 413), "by count and size beta or v0"),
        ("ots", 250_000, 8_000, (550, 413), "by count and size v0"),
    ],
)
def test_versions_are_told_apart(name: str, num: int, clear: int, size: tuple[int, int], expected: str) -> None:
    """The rule is that of `data info`; here it gets what an inspection has seen."""
    truths = [Path(f"{i}.png") for i in range(clear)]
    truths += truths[:1] * (num - clear)
    names = [f"{path.stem}_1" for path in truths]
    subject = Subject(name, "train", Pairs("", names, [Path(f"{n}.png") for n in names], truths))
    text, published = describe_edition(subject, [(620, 460) if name == "its" else size], [size])
    assert expected in text
    assert published == ("as published" in expected)


def test_reports_escape_what_comes_from_outside() -> None:
    report = Report(
        "Pillow", "/<root>", findings=[Finding("damaged", "its", "<i>", ("/a/<script>x</script>.png", "\udcff"))]
    )
    page = to_html(report)
    assert "<script" not in page and "&lt;script&gt;x" in page
    page.encode("utf-8")
    assert json.loads(to_json(report))["findings"][0]["files"][0] == "/a/<script>x</script>.png"


def test_text_names_the_first_files_and_json_all() -> None:
    report = Report("Pillow", "/", findings=[Finding("sizes", "its", "wrong", tuple(f"f{i}" for i in range(30)))])
    assert "... and 22 more" in to_text(report) and "f29" not in to_text(report)
    assert "f29" in to_json(report) and "f29" in to_html(report)


def run(root: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setenv("DEHAZE_BENCH_CACHE", str(root / "cache"))
    return verify.run([*words, "--root", str(root), "--workers", "1"])


def test_the_verb_reports_and_its_exit_code_tells(
    tmp_path: Path, sots: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [f"--{form}={tmp_path / 'out' / f'report.{form}'}" for form in ("json", "html")]
    assert run(tmp_path, monkeypatch, "sots_indoor", *files) == 0
    assert "nothing wrong found" in capsys.readouterr().out
    (sots / "hazy/1401_1_0.85.png").write_bytes(b"no picture")
    assert run(tmp_path, monkeypatch, "sots_indoor", *files) == 1
    assert "damaged: sots_indoor (test): 1 of 12 files" in capsys.readouterr().out
    assert json.loads((tmp_path / "out/report.json").read_text())["findings"][0]["kind"] == "damaged"
    assert "1401_1_0.85.png" in (tmp_path / "out/report.html").read_text()


def test_any_two_folders_are_verified(tmp_path: Path, sots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [f"testset.hazy={sots / 'hazy'}", f"testset.clear={sots / 'clear'}"]
    assert run(tmp_path, monkeypatch, "pairs", *folders) == 1  # no crop is set
    assert run(tmp_path, monkeypatch, "pairs", *folders, "testset.crop=centre10") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "needs the name of a data set"),
        (("sots_indor",), "Unknown data set 'sots_indor'. Did you mean 'sots_indoor'"),
        (("its",), "no known layout under"),
        (("pairs",), "say which folders"),
        (("photos",), "not read from two folders"),
        (("its", "--jason", "x"), "Unknown option '--jason' of data verify. Did you mean '--json'"),
        (("its", "--sample", "-1"), "--sample=-1 is too few"),
    ],
)
def test_requests_that_cannot_be_right(
    words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?").replace(".", r"\.")):
        run(tmp_path, monkeypatch, *words)


Crop = Callable[[Image.Image], Image.Image]


@pytest.mark.parametrize(
    ("kind", "shift", "crop"),
    [
        ("aligned", (0, 0), lambda clear: clear.crop((10, 10, 630, 470))),
        ("shifted", (10, 10), lambda clear: clear.crop((0, 0, 620, 460))),
        ("shifted", (1, 0), lambda clear: clear.crop((10, 9, 630, 469))),
        ("resized", (0, 0), lambda clear: clear.resize((620, 460), Image.Resampling.BICUBIC)),
    ],
    ids=["centre", "top_left", "one_row_off", "resize"],
)
def test_real_pairs_pass_for_the_crop_of_ten_only(kind: str, shift: tuple[int, int], crop: Crop, shared: Path) -> None:
    folder = shared / "samples" / "sots_indoor"
    for name in ("1400_1", "1400_2", "1401_1", "1401_2"):
        clear = crop(Image.open(folder / "gt" / f"{name[:4]}.png"))
        found = align(to_grey(np.asarray(Image.open(folder / "hazy" / f"{name}.png"))), to_grey(np.asarray(clear)))
        assert (found.kind, found.shift) == (kind, shift)
        assert not found.exchanged
        if kind == "resized":
            assert found.scale == pytest.approx((460 / 480, 620 / 640), abs=0.01)


def test_real_samples_have_no_findings(shared: Path) -> None:
    root = shared / "samples"
    sets = [("its", "train", "its"), ("sots_indoor", "test", "sots_indoor")]
    sets += [("satehaze1k_thick", role, f"satehaze1k_thick/{role}") for role in ("train", "test")]
    subjects = []
    for name, role, folder in sets:
        found = FolderPairs(name, str(root), [folder], crop="centre10")
        subjects.append(Subject(name, role, found.pairs, 10))
    with Workers(1, Memory(None)) as pool:
        report = inspect(subjects, str(root), pool)
    assert report.findings == [], to_text(report)
    assert [s.alignment for s in report.summaries] == ["4 of 4 pairs compared: 4 aligned"] * 4

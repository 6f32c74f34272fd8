from __future__ import annotations

import html.parser
import json
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from dehaze_bench.errors import UsageError
from dehaze_bench.results.record import Failure, write_failure
from dehaze_bench.results.report.site import ScanShown, write_report
from dehaze_bench.results.store import Store
from dehaze_bench.track.pictures import error_map
from tests.results.fabricated import MakeRun
from tests.results.report.conftest import PICTURES, RUNS, data_of, make_runs, write

EVIL = "<script>hacked=1</script>\"'><img src=x onerror=hacked=1>"


class Page(html.parser.HTMLParser):
    """What a browser would make of a page: tags with attributes, and what they refer to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def links(self) -> list[str]:
        return [attrs[name] for _, attrs in self.tags for name in ("src", "href") if name in attrs]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_report_has_an_index_and_a_page_per_run(runs: Store, tmp_path: Path) -> None:
    written = write(runs, tmp_path / "out")
    assert written.index == tmp_path / "out" / "index.html" and written.states == {"done": RUNS}
    assert len(list((tmp_path / "out" / "runs").glob("*.html"))) == RUNS
    text = Page(written.index).text
    assert "photos, protocol full_rgb" in text and "± " in text and f"{RUNS} runs: {RUNS} done" in text
    assert written.num_files == len(snapshot(tmp_path / "out"))


def test_every_link_leads_to_a_file_of_the_report(runs: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(runs, out, [ScanShown("cross", "four ways", "", ("unet",), b"not looked at")])
    for path in out.rglob("*.html"):
        for link in Page(path).links():
            target = urllib.parse.urlsplit(link)
            assert not target.scheme and not target.netloc, link
            assert not target.path or (path.parent / urllib.parse.unquote(target.path)).resolve().is_file(), link
    for name in ("report.css", "vendor/uPlot.min.css"):
        assert (
            "url(" not in (out / "static" / name).read_text() and "@import" not in (out / "static" / name).read_text()
        )
    for run in (out / "data").glob("0*.js"):
        for picture in data_of(out, run.stem)["pictures"]:  # type: ignore[attr-defined]
            assert all((out / picture[kind]).is_file() for kind in ("restored", "hazy", "clear", "error", "thumb"))


def test_the_same_runs_give_the_same_bytes_and_untouched_files(runs: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(runs, out)
    first = snapshot(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    write(runs, out)
    assert snapshot(out) == first
    assert {path: path.stat().st_mtime_ns for path in times} == times
    write(runs, tmp_path / "other")
    assert snapshot(tmp_path / "other") == first


def test_what_is_gone_from_the_runs_goes_from_the_report_and_nothing_else(runs: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(runs, out)
    (out / "mine.txt").write_text("keep")
    gone = runs.runs()[0]
    for path in sorted(gone.path.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    gone.path.rmdir()
    write(runs, out)
    assert not (out / "runs" / f"{gone.id}.html").exists() and not (out / "data" / f"{gone.id}.js").exists()
    assert (out / "mine.txt").read_text() == "keep"
    assert f"{gone.id}" not in (out / "index.html").read_text()


def test_a_manifest_cannot_delete_what_lies_outside(runs: Store, tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim.txt"
    write(runs, out)
    victim.write_text("keep")
    manifest = json.loads((out / "report.json").read_text())
    manifest["files"] += ["../victim.txt", str(victim)]
    (out / "report.json").write_text(json.dumps(manifest))
    write(runs, out)
    assert victim.exists()


def test_a_report_that_was_broken_off_is_written_again(runs: Store, tmp_path: Path) -> None:
    def stop(restored: np.ndarray, clear: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path / "out", runs.runs(), [], [], stop)
    assert not (tmp_path / "out" / "index.html").exists()
    assert write(runs, tmp_path / "out").index.is_file()


def test_a_folder_with_other_things_is_refused(runs: Store, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is no report"):
        write(runs, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_runs_that_are_not_done_are_listed_with_their_state(runs: Store, tmp_path: Path) -> None:
    error = RuntimeError("loss is <nan> at step 7")
    for name in ("failed", "busy", "half", "bare", "torn"):
        (runs.root / f"{name}-{ord(name[0]):08x}").mkdir()
    folders = {path.name.split("-")[0]: path for path in runs.root.iterdir()}
    write_failure(folders["failed"], Failure.from_exception(error, "00000066", "failed", "2026"))
    (folders["half"] / "config.yaml").write_text("seed: 0\n")
    (folders["half"] / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": "nan"}\nhalf a li')
    (folders["torn"] / "result.json").write_text('{"id": ')
    with FileLock(folders["busy"] / "lock"):
        written = write(runs, tmp_path / "out")
    assert written.states == {"done": RUNS, "broken": 1, "empty": 1, "failed": 1, "interrupted": 1, "running": 1}
    text = Page(tmp_path / "out" / "index.html").text
    assert "RuntimeError: loss is <nan> at step 7" in text and "not valid JSON" in text
    page = Page(tmp_path / "out" / "runs" / "00000066.html")
    assert "Traceback" in page.text or "RuntimeError" in page.text
    half = f"{ord('h'):08x}"
    assert "1 of 3 lines cannot be read" in Page(tmp_path / "out" / "runs" / f"{half}.html").text
    assert data_of(tmp_path / "out", half)["curves"] == {"loss": [[1, 2], [0.5, None]]}


def test_only_unfinished_runs_are_a_report_that_says_so(store: Store, tmp_path: Path) -> None:
    write_failure(_mkdir(store.root / "unet-0000000f"), Failure("0000000f", "unet", "lost", "E", "", "2026", 1))
    write(store, tmp_path / "out")
    assert "No run is done yet" in Page(tmp_path / "out" / "index.html").text


def test_damaged_files_of_a_finished_run_are_named_on_its_page(runs: Store, tmp_path: Path) -> None:
    run = runs.runs()[0]
    (run.path / "per_image.csv").write_text("name,psnr\nimage_0000,high\n")
    (run.path / "images" / "photos" / "image_0000.png").write_bytes(b"\x89PNG no more")
    write(runs, tmp_path / "out")
    text = Page(tmp_path / "out" / "runs" / f"{run.id}.html").text
    assert "per_image.csv, line 2" in text and "image_0000.png: cannot be shown" in text
    names = [picture["name"] for picture in data_of(tmp_path / "out", run.id)["pictures"]]  # type: ignore[attr-defined]
    assert names == ["image_0001"]
    assert "per_image.csv" in Page(tmp_path / "out" / "index.html").text, "what could not be compared is said there"


def test_whatever_a_file_says_stays_text(store: Store, make_run: MakeRun, tmp_path: Path) -> None:
    record = make_run(
        "0000000e",
        choices={"model": EVIL, "scan": EVIL},
        config={"model": {"note": EVIL}, "seed": 0},
        env={"device": EVIL, "backends": {EVIL: EVIL}},
        evaluation={"protocol": EVIL, "protocol_note": EVIL, "decoder": EVIL},
    )
    make_run("0000000d", evaluation={"protocol": EVIL}, config={"seed": 3})
    (store.root / record.dir / "per_image.csv").write_text(f'name,psnr\n"{EVIL.replace(chr(34), chr(34) * 2)}",20.0\n')
    write_failure(_mkdir(store.root / "unet-0000000f"), Failure("0000000f", "unet", EVIL, "E", EVIL, "2026", 1))
    out = tmp_path / "out"
    write(store, out, [ScanShown(EVIL, EVIL, EVIL, (EVIL,), None, EVIL)])
    for path in out.rglob("*.html"):
        page = Page(path)
        assert not [attrs for tag, attrs in page.tags if tag == "img" and attrs.get("src") == "x"], path
        scripts = [attrs for tag, attrs in page.tags if tag == "script"]
        assert scripts and all(set(attrs) == {"src"} for attrs in scripts), path
        assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")], path
    assert "hacked=1" in Page(out / "runs" / "0000000e.html").text, "it is there, as text"


def test_a_test_set_that_names_other_folders_shows_nothing(store: Store, make_run: MakeRun, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "private.png")
    make_run("00000001", evaluation={"testset": "../../.."})
    write(store, tmp_path / "out")
    assert data_of(tmp_path / "out", "00000001")["pictures"] == []


def test_pictures_that_runs_share_are_in_the_report_once(runs: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(runs, out)
    pictures = [data_of(out, run.id)["pictures"] for run in runs.runs()]
    for index in range(PICTURES):
        assert len({shown[index]["hazy"] for shown in pictures}) == 1  # type: ignore[index]
    contents = [path.read_bytes() for path in (out / "pictures").iterdir()]
    assert len(contents) == len(set(contents)) < RUNS * PICTURES * 3


def test_the_error_map_is_that_of_the_two_pictures(runs: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(runs, out)
    first = data_of(out, runs.runs()[0].id)["pictures"][0]  # type: ignore[index]
    levels = {kind: np.asarray(Image.open(out / first[kind]).convert("RGB")) for kind in ("restored", "clear", "error")}
    expected = error_map(levels["restored"], levels["clear"])
    assert np.abs(levels["error"].astype(int) - expected).mean() < 6, "JPEG loses a little"


def test_a_run_without_clear_pictures_has_no_error_map(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "plain"
    make_runs(root, runs=1, pictures=1)
    images = next(root.iterdir()) / "images" / "photos"
    for path in (images / "clear").iterdir():
        path.unlink()
    write(Store(root), tmp_path / "out")
    (picture,) = data_of(tmp_path / "out", Store(root).runs()[0].id)["pictures"]  # type: ignore[misc]
    assert picture["error"] == "" and picture["clear"] == "" and picture["hazy"] != ""


def test_values_that_are_no_numbers_survive(store: Store, make_run: MakeRun, tmp_path: Path) -> None:
    record = make_run("00000001", psnr=float("inf"))
    (store.root / record.dir / "per_image.csv").write_text("name,psnr,ssim\na,inf,1.0\nb,nan,0.123456789\n")
    write(store, tmp_path / "out")
    data = data_of(tmp_path / "out", "00000001")
    assert [column["name"] for column in data["columns"]] == ["psnr", "ssim", "ciede2000"]  # type: ignore[attr-defined]
    assert data["images"] == [["a", "inf", 1.0, None], ["b", "nan", 0.123457, None]]
    assert "∞" in Page(tmp_path / "out" / "index.html").text


def test_two_directories_with_one_id_have_two_pages(store: Store, make_run: MakeRun, tmp_path: Path) -> None:
    make_run("00000001")
    _mkdir(store.root / "again-00000001")
    write(store, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out" / "runs").iterdir()} == {"00000001.html", "00000001-2.html"}


def _mkdir(path: Path) -> Path:
    path.mkdir()
    return path

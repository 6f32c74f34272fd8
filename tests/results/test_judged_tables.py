"""Tables whose rows are compared image by image: what is compared, what is said, and in every format."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dehaze_bench.errors import UsageError
from dehaze_bench.results.cells import Table
from dehaze_bench.results.experiment import ExperimentRow
from dehaze_bench.results.record import read_record
from dehaze_bench.results.renderers import FORMATS, render
from dehaze_bench.results.selection import Condition, View
from dehaze_bench.results.store import Store
from dehaze_bench.results.tables import AS_WRITTEN, build_table, comparison
from tests.results.fabricated import MakeExperiment, fabricate_many

SEEDS = (0, 1)
Build = Callable[..., Table]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six rows of two seeds over 30 images, each a little better than the one before."""
    folder = tmp_path_factory.mktemp("made") / "runs"
    fabricate_many(folder, runs=12, images=30, seeds=2, pictures=0)
    return folder


@pytest.fixture
def build(made: Path, tmp_path: Path, make_experiment: MakeExperiment) -> Build:
    store = Store(Path(shutil.copytree(made, tmp_path / "many")))
    ids = [run.id for run in sorted(store.runs(), key=lambda run: run.id)]

    def run(view: View = AS_WRITTEN, labels: str = "abcdef", **changes: Any) -> Table:
        experiment = make_experiment(*labels, seeds=SEEDS, **changes)
        rows = [(ExperimentRow(label, (), SEEDS), ids[2 * i : 2 * i + 2]) for i, label in enumerate(labels)]
        return build_table(experiment, rows, store, [], view)

    run.store = store  # type: ignore[attr-defined]
    return run


def by_label(table: Table) -> dict[str, Any]:
    return {row.label: row for row in table.rows}


def test_without_a_baseline_nothing_is_read(build: Build) -> None:
    for path in build.store.root.rglob("per_image.csv"):  # type: ignore[attr-defined]
        path.write_text("spoilt")
    table = build()
    assert table.baseline is None and table.ranks is None
    assert all(row.comparison is None for row in table.rows)


def test_the_file_or_the_command_names_a_baseline(build: Build) -> None:
    rows = by_label(build(baseline="a"))
    assert rows["a"].comparison is None
    found = rows["f"].comparison
    assert (found.baseline, found.metric, found.n, found.seeds, found.family) == ("a", "psnr", 30, (2, 2), 5)
    assert found.verdict == "better" and found.low > 0
    assert found.difference == pytest.approx(rows["f"].cells[2].value - rows["a"].cells[2].value)
    other = by_label(build(View(baseline="f", compare="ciede2000"), baseline="a"))
    assert other["a"].comparison.baseline == "f"
    assert other["a"].comparison.verdict == "worse" and other["a"].comparison.difference > 0


def test_the_small_print_says_how_and_over_how_many(build: Build) -> None:
    table = build(baseline="a")
    text = "\n".join(table.footer)
    for fact in ("Against a, paired over n = 30 images", "Holm's correction over 5 rows", "not below 0.05, 'one seed'"):
        assert fact in text
    assert "Friedman over 6 rows and 30 images" in text
    assert table.ranks is not None and table.ranks.labels[0] in "ef"


def test_a_filter_changes_what_is_ranked_but_not_the_correction(build: Build) -> None:
    table = build(View(where=(Condition.parse("label!=f"), Condition.parse("label!=e"))), baseline="a")
    assert [row.label for row in table.rows] == list("abcd")
    assert by_label(table)["b"].comparison.family == 5
    assert table.ranks is not None and len(table.ranks.labels) == 4
    assert by_label(table)["d"].cells[2].mark == "best", "among the rows shown"
    assert any("Rows with label!=f and label!=e: 4 of 6" in line for line in table.footer)
    judged = build(View(where=(Condition.parse("verdict=better"),), sort="-difference"), baseline="a")
    assert {row.comparison.verdict for row in judged.rows} == {"better"}  # type: ignore[union-attr]
    differences = [row.comparison.difference for row in judged.rows]  # type: ignore[union-attr]
    assert differences == sorted(differences)
    assert judged.ranks is not None and len(judged.ranks.labels) == 6, "a verdict does not choose what is ranked"


def test_rows_of_another_protocol_are_not_compared(build: Build) -> None:
    for run in (run for run in build.store.runs() if int(run.id[-1], 16) in (2, 3)):  # type: ignore[attr-defined]
        path = run.path / "result.json"
        path.write_text(path.read_text().replace('"full_rgb"', '"full_y"'))
        assert read_record(path).evaluation.protocol == "full_y"
    rows = by_label(build(baseline="a"))
    assert rows["b"].comparison is None and rows["b"].incomparable == "another protocol"
    assert rows["c"].comparison.family == 4


def test_other_images_are_an_error_on_request_and_a_line_otherwise(build: Build) -> None:
    run = next(r for r in build.store.runs() if r.id.endswith("5"))  # type: ignore[attr-defined]
    path = run.path / "per_image.csv"
    path.write_text(path.read_text().replace("image_0003", "elsewhere"))
    with pytest.raises(UsageError, match=r"'c' with seed 0 .*image_0003.*elsewhere"):
        build(View(baseline="a"))
    table = build(baseline="a")
    assert any(line.startswith("Not compared: cannot compare 'c'") for line in table.footer)
    assert all(row.comparison is None for row in table.rows)


def test_a_baseline_that_has_not_run_is_a_line(build: Build) -> None:
    for run in build.store.runs():  # type: ignore[attr-defined]
        if int(run.id[-1], 16) < 2:
            (run.path / "result.json").unlink()
    table = build(baseline="a")
    assert "Not compared with a: no run of it is done." in table.footer
    assert by_label(table)["b"].incomparable == "no baseline"


def test_wrong_names_are_refused_with_the_nearest(build: Build) -> None:
    for view, message in (
        (View(baseline="aa"), "no row 'aa' to compare with. Did you mean 'a'"),
        (View(baseline="a", compare="psnrr"), "by 'psnrr', which is no metric here. Did you mean 'psnr'"),
        (View(baseline="a", compare="params"), "by 'params', which is no metric"),
        (View(sort="psnrr"), "--sort: no column 'psnrr'. Did you mean 'psnr'"),
    ):
        with pytest.raises(UsageError, match=message):
            build(view)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_the_comparison(build: Build, form: str) -> None:
    table = build(baseline="a")
    text = render(table, form)
    found = by_label(table)["f"].comparison
    if form == "csv":
        rows = [r for r in csv.DictReader(io.StringIO(text)) if r["label"] == "f" and r["column"] == "psnr"]
        assert float(rows[0]["difference"]) == found.difference
        assert (rows[0]["n_paired"], rows[0]["verdict"]) == ("30", found.words)
    elif form == "json":
        whole = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        row = next(r for r in whole["rows"] if r["label"] == "f")
        assert row["comparison"]["words"] == found.words
        assert row["comparison"]["p"] == found.p
        assert whole["ranks"]["critical"] == table.ranks.critical  # type: ignore[union-attr]
        assert row["cells"][2]["group"] == {"testset": "photos", "protocol": "full_rgb", "select": "last"}
    else:
        assert "p (Holm)" in text
        assert found.words in text and "(baseline)" in text


def test_a_plain_table_for_a_tracker_has_the_comparison(build: Build) -> None:
    columns, rows = comparison(build(baseline="a"))
    flat = {row[0]: dict(zip(columns, row, strict=True)) for row in rows}
    assert flat["f"]["verdict"] and flat["f"]["n_paired"] == 30
    assert flat["a"]["difference"] is None


def test_ranks_alone_need_no_baseline(build: Build) -> None:
    table = build(View(ranks=True))
    assert table.ranks is not None and table.baseline is None
    assert "vs." not in render(table, "md")


def test_scenes_are_blocks_where_the_file_says_so(build: Build) -> None:
    found = by_label(build(baseline="a", unit="scenes"))["b"].comparison
    assert (found.n, found.unit) == (1, "scenes"), "all images are of the scene 'image'"
    assert found.verdict == "no difference shown"

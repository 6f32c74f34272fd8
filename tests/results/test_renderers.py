from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from dehaze_bench.errors import UsageError
from dehaze_bench.results.cells import Table
from dehaze_bench.results.reference import ReferenceRow, ReferenceSet
from dehaze_bench.results.renderers import FORMATS, print_table, render
from dehaze_bench.results.store import Store
from dehaze_bench.results.tables import build_table
from tests.results.fabricated import MakeExperiment, MakeRun

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "tables"


@pytest.fixture
def table(
    store: Store, make_run: MakeRun, make_failure: Callable[[str, str], Path], make_experiment: MakeExperiment
) -> Table:
    """Two seeds, an untrained row, a failed row with awkward characters, a printed row of another protocol."""
    make_run("00000001", psnr=20.0)
    make_run("00000002", psnr=21.0, seed=1)
    make_run("00000003", psnr=17.0, ciede2000=4.0, train=None, evaluation={"step": None, "select": "none"})
    make_failure("00000004", "50 % of {this} <b>&</b> a_b | c\\d [x] failed")
    experiment = make_experiment("Mamba & cross_100%", "hazy | input", "[x] <i>random</i> $1 ~ ^", seeds=(0, 1))
    ids = [["00000001", "00000002"], ["00000003"], ["00000004", "0000000a"]]
    paper = ReferenceRow(
        "Paper-B", {"psnr": 37.84, "ssim": 0.99, "macs": 25.79e9}, "photos", "dehazeformer", "arXiv 1, Table 1", "read"
    )
    references = [ReferenceSet("photos", "About the printed rows.", (256, 256), (paper,))]
    return build_table(experiment, list(zip(experiment.rows, ids, strict=True)), store, references)


@pytest.mark.parametrize("form", FORMATS)
def test_golden(table: Table, form: str) -> None:
    """Set DEHAZE_BENCH_REGENERATE=1 to write the snapshots anew after an intended change, then read them."""
    path = GOLDEN / f"table.{form}"
    text = render(table, form)
    if os.environ.get("DEHAZE_BENCH_REGENERATE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_markdown_has_one_cell_per_column_in_every_line(table: Table) -> None:
    lines = [line for line in render(table, "md").splitlines() if line.startswith("|")]
    counts = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert len(lines) == 2 + len(table.rows)
    assert len(counts) == 1


def test_tex_is_balanced_and_escaped(table: Table) -> None:
    text = render(table, "tex")
    bare = re.sub(r"\\[\\{}%&_#$]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(table.columns) + 3}
    assert r"Mamba \& cross\_100\%" in text
    assert r"{[}x{]} \textless{}i\textgreater{}random\textless{}/i\textgreater{} \$1 \textasciitilde{}" in text
    assert text.isascii()


class _Tags(HTMLParser):
    """Checks nesting and collects what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_well_formed_self_contained_and_escaped(table: Table) -> None:
    page = _Tags()
    page.feed(render(table, "html"))
    assert page.open == []
    assert page.links == []
    assert "script" not in page.seen
    assert "i" not in page.seen
    assert "b" not in page.seen
    assert page.seen.count("tbody") == 2
    assert page.seen.count("td") == len(table.rows) * page.seen.count("th")
    assert "[x] <i>random</i> $1 ~ ^" in page.text
    assert "prefers-color-scheme: dark" in page.text


def test_csv_knows_everything_about_every_cell(table: Table) -> None:
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert len(rows) == len(table.rows) * len(table.columns)
    cells = {(row["label"], row["column"]): row for row in rows}
    ours = cells["Mamba & cross_100%", "psnr"]
    assert float(ours["value"]) == 20.5
    assert float(ours["std"]) == pytest.approx(0.5**0.5)
    assert (ours["n"], ours["runs"], ours["mark"]) == ("2", "00000001 00000002", "best")
    assert (ours["testset"], ours["protocol"], ours["select"]) == ("photos", "full_rgb", "last")
    assert cells["hazy | input", "psnr"]["untrained"] == "True"
    printed = cells["Paper-B", "psnr"]
    assert (printed["kind"], printed["flagged"], printed["protocol"]) == ("printed", "True", "dehazeformer")
    assert cells["Paper-B", "ciede2000"]["missing"] == "not published"


def test_terminal_shows_brackets_literally_and_all_rows(table: Table) -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    print_table(table, console)
    text = console.export_text()
    assert "[x] <i>random</i> $1" in text
    assert "20.50 ± 0.71" in text
    assert "37.84 †" in text
    assert "0.990 †" in text
    assert "Decoder: Pillow 12.0.0" in text


def test_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown table format 'markdwn'"):
        render(Table("t", "t", (), (), (), ()), "markdwn")

"""Labels, titles, notes and run names that are markup: every format shows them as text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from dehaze_bench.results.cells import Cell, Group, Row, Table
from dehaze_bench.results.renderers import render

EVIL = (
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "</title></table></textarea><img src=x onerror=alert(1)>",
    "a | b ` c * d _ e [f](javascript:alert(1)) ~~g~~",
    "&lt;b&gt; &amp; &#60;",
    "line\nbreak\r\n\ttab",
    "# heading",
    "1. list",
    "{{ 7 * 7 }} {% raw %} ${x}",
)


@pytest.fixture(params=EVIL)
def evil(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def table(text: str) -> Table:
    group = Group(text, text, text)
    cell = Cell("psnr", "ours", 20.0, 0.1, 2, (text,), group, True, text, "best")
    rows = (
        Row(text, "ours", (cell,), group, done=2, planned=2, note=1, remark=text, choices={text: text}),
        Row("other", "ours", (Cell("psnr", "ours", missing=text),), Group("t", "p", "s"), incomparable=text),
    )
    return Table("name", text, ("psnr",), rows, (text,), (text,), baseline=text, compared="psnr")


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_html(evil: str) -> None:
    page = Seen()
    page.feed(render(table(evil), "html"))
    known = "html head meta title style body h1 div table thead tbody tr th td sup strong span ul li"
    assert page.tags <= set(known.split())
    assert page.attributes <= {"lang", "charset", "name", "content", "class", "title"}
    assert flat(page.text).count(flat(evil)) >= 5


def test_markdown_as_a_browser_would_show_it(evil: str) -> None:
    page = Seen()
    page.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(render(table(evil), "md")))
    assert page.tags <= {"h3", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "p", "strong", "sup"}
    assert page.attributes <= {"style"}
    assert flat(page.text).count(flat(evil)) >= 5


def test_tex_has_no_character_with_a_meaning_left(evil: str) -> None:
    text = render(table(evil), "tex")
    assert text.isascii()
    cells = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({len(re.findall(r"(?<!\\)&", line)) for line in cells}) == 1
    assert "<script>" not in text


def test_json_and_csv_keep_it_as_it_is(evil: str, tmp_path: Path) -> None:
    assert json.loads(render(table(evil), "json"))["rows"][0]["label"] == evil
    import csv
    import io

    rows = list(csv.DictReader(io.StringIO(render(table(evil), "csv"), newline="")))
    assert rows[0]["label"] == evil


@pytest.mark.parametrize("formula", ["=HYPERLINK(1)", "+1+cmd", "-2+3", "@SUM(A1)"])
def test_a_spreadsheet_does_not_compute_what_a_csv_says(formula: str) -> None:
    import csv
    import io

    rows = list(csv.DictReader(io.StringIO(render(table(formula), "csv"), newline="")))
    assert rows[0]["label"] == rows[0]["remark"] == f"'{formula}"
    assert float(rows[0]["value"]) == 20.0

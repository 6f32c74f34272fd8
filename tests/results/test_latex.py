"""LaTeX of tables: what it says of every character, and, where there is an engine, that it compiles."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dehaze_bench.results.cells import Table
from dehaze_bench.results.experiment import Experiment, ExperimentRow
from dehaze_bench.results.latex import LONG, escape, to_latex
from dehaze_bench.results.reference import ReferenceSet
from dehaze_bench.results.store import Store
from dehaze_bench.results.tables import build_table
from tests.results.fabricated import fabricate_many

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "a & b_c% $1 #x {y} ~ ^ \\ <i> [z] * | \" ' é ß α Ω → ≤ 漢 \t\n\x07 --- <script>alert(1)</script>"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    records = fabricate_many(tmp_path / "runs", runs=8, images=12, seeds=2, pictures=0)
    labels = ["baseline", HOSTILE, "[x] *y*", "plain"]
    rows = [
        (ExperimentRow(label, (), (0, 1)), [r.id for r in records[2 * i : 2 * i + 2]]) for i, label in enumerate(labels)
    ]
    experiment = Experiment(
        name="hostile_name",
        title=HOSTILE,
        note=HOSTILE,
        base=(),
        rows=tuple(row for row, _ in rows),
        columns=("params", "macs", "psnr", "ssim", "ciede2000"),
        sort=None,
        references=(),
        path=tmp_path / "x.yaml",
        baseline="baseline",
    )
    references = ROOT / "experiments" / "references" / "sots_indoor.yaml"
    return build_table(experiment, rows, Store(tmp_path / "runs"), [ReferenceSet.load(references)])


def test_every_character_becomes_one_that_latex_can_set() -> None:
    text = escape(HOSTILE)
    assert text.isascii() and text.isprintable()
    assert escape("αΩλ é 漢") == r"$\alpha$$\Omega$$\lambda$ e ?"
    assert escape("\\%") == r"\textbackslash{}\%"
    bare = re.sub(r"\\[\\{}%&_#$]", "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0


def test_long_tables_break_over_pages_and_short_ones_float(table: Table) -> None:
    assert len(table.rows) > LONG
    assert r"\begin{longtable}" in to_latex(table) and "resizebox" not in to_latex(table)
    short = to_latex(replace(table, rows=table.rows[:4], notes=()))
    assert r"\begin{table}" in short and r"\resizebox" in short
    assert "kind" not in short.split(r"\midrule")[0], "all rows are of one kind"


@pytest.mark.slow
@pytest.mark.parametrize("num_rows", [4, None])
def test_it_compiles_and_fits_on_the_page(table: Table, num_rows: int | None, tmp_path: Path) -> None:
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if engine is None:
        pytest.skip("no LaTeX engine: apt-get install texlive-latex-base texlive-latex-recommended")
    shown = replace(table, rows=table.rows[:num_rows], notes=table.notes if num_rows is None else ())
    (tmp_path / "table.tex").write_text(to_latex(shown))
    (tmp_path / "doc.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs,graphicx,longtable}\n\\begin{document}\n"
        "\\input{table.tex}\n\\end{document}\n"
    )
    options = ["-interaction=nonstopmode", "-halt-on-error"] if engine.endswith("pdflatex") else []
    for _ in range(2 if options else 1):
        done = subprocess.run([engine, *options, "doc.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "doc.pdf").stat().st_size > 5000
    assert not re.search(r"Overfull \\hbox|Float too large|LaTeX Error", done.stdout + done.stderr)

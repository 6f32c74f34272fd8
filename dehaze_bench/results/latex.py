"""A table as LaTeX: booktabs, shrunk to the line where it is too wide, every character one that pdfTeX can set."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

from dehaze_bench.results.cells import Table
from dehaze_bench.results.grid import NOTHING, Grid, Style, make_grid
from dehaze_bench.results.samples import UNITS

LONG = 45  # lines of rows and small print that fit on a page
COUNTS = tuple(f"n {unit}" for unit in UNITS)

_TEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "†": r"$^{\dagger}$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "∞": r"$\infty$",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    **{char: f"{{{char}}}" for char in "[]*"},  # a line that starts with one would be read as an option of \\
}
# A box as wide as what it holds, or as the line where that is narrower.
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_GREEK = {
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu"),
    *("xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
    *("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"),
}


def to_latex(table: Table) -> str:
    """Write a table for a document that has booktabs and graphicx, and longtable where it is longer than a page.

    Columns of words in which all rows agree are left out, for width; the small print has what they say.
    """
    grid = _narrowed(make_grid(table, Style(escape, r"\textbf{{{}}}", r"\underline{{{}}}", r"\textsuperscript{{{}}}")))
    numbers = len(grid.head) - grid.num_text - grid.num_words
    align = "l" * grid.num_text + "r" * numbers + "l" * grid.num_words
    caption = rf"\caption{{{escape(table.title)}}}\label{{tab:{table.name}}}"
    head = " & ".join(grid.head) + r" \\"
    body: list[str] = []
    previous = None
    for row, cells in grid.lines:
        if previous and previous.kind != "printed" and row.kind == "printed":
            body.append(r"\midrule")
        body.append(" & ".join(cells) + r" \\")
        previous = row
    foot = [text + r"\par" for text in grid.foot]
    if len(grid.lines) + len(foot) > LONG:
        lines = [r"% needs \usepackage{booktabs,longtable}", r"\begingroup\scriptsize\setlength{\tabcolsep}{2pt}"]
        lines += [
            rf"\setlength{{\LT{side}}}{{0pt plus 1fill minus 1fill}}" for side in ("left", "right")
        ]  # may stand out
        lines += [rf"\begin{{longtable}}{{{align}}}", caption + r"\\", r"\toprule", head, r"\midrule", r"\endhead"]
        lines += [r"\bottomrule", r"\endfoot", *body, r"\end{longtable}", r"\noindent\raggedright"]
        return "\n".join([*lines, *foot, r"\endgroup"]) + "\n"
    lines = [r"% needs \usepackage{booktabs,graphicx}", r"\begin{table}", r"\centering", caption, _FIT]
    lines += [rf"\begin{{tabular}}{{{align}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
    lines += [r"\end{tabular}}", r"\par\smallskip\raggedright\scriptsize", *foot, r"\end{table}"]
    return "\n".join(lines) + "\n"


def _narrowed(grid: Grid) -> Grid:
    """Leave out 'kind' where all rows have one, and the number of images compared, which the small print has too."""
    out = []
    if len({line[1] for _, line in grid.lines}) == 1:
        out.append(1)
    for index, name in enumerate(grid.head):
        if name in COUNTS and len({line[index] for _, line in grid.lines} - {escape(NOTHING)}) <= 1:
            out.append(index)
    if not out:
        return grid
    lines = [(row, [text for i, text in enumerate(line) if i not in out]) for row, line in grid.lines]
    head = [text for i, text in enumerate(grid.head) if i not in out]
    return replace(grid, head=head, lines=lines, num_text=grid.num_text - (1 in out))


def escape(text: str) -> str:
    """Write a text so that LaTeX prints it; a character that its fonts lack becomes the nearest letters, or '?'."""
    return "".join(_character(char) for char in text)


def _character(char: str) -> str:
    if char in _TEX:
        return _TEX[char]
    if char.isascii():
        return char if char.isprintable() else " "
    name = unicodedata.name(char, "").split()
    if name[:1] == ["GREEK"] and len(name) == 4:
        letter = name[3].lower() if name[1] == "SMALL" else name[3].capitalize()
        if letter.replace("amda", "ambda") in _GREEK:  # Unicode spells lamda
            return rf"$\{letter.replace('amda', 'ambda')}$"
    plain = "".join(part for part in unicodedata.normalize("NFKD", char) if part.isascii() and part.isprintable())
    return "".join(_TEX.get(part, part) for part in plain) or "?"

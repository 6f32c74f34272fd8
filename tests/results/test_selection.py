from __future__ import annotations

import pytest

from dehaze_bench.errors import UsageError
from dehaze_bench.results.cells import Cell, Group, Row
from dehaze_bench.results.selection import Condition, choose, number_of, sort_rows, value_of

GROUP = Group("photos", "full_rgb", "last")


def row(label: str, psnr: float | None, params: float | None, mixer: str = "mamba", kind: str = "ours") -> Row:
    cells = (
        Cell("params", "ours", params),
        Cell("psnr", "ours", psnr, group=GROUP, higher=None if psnr is None else True),
    )
    return Row(label, kind, cells, GROUP, done=2, planned=2, choices={"model/mixer": mixer, "scan": label})  # type: ignore[arg-type]


ROWS = [
    row("hilbert", 20.0, 2e6),
    row("cross", 22.0, 1.5e6, "wkv"),
    row("Raster [x]", None, 9e5),
    row("none", 21.0, None),
]


def chosen(*conditions: str) -> list[str]:
    kept = choose(ROWS, [Condition.parse(text) for text in conditions])
    return [one.label for one, keep in zip(ROWS, kept, strict=True) if keep]


@pytest.mark.parametrize(
    ("conditions", "labels"),
    [
        (("mixer=wkv",), ["cross"]),
        (("model/mixer=mamba",), ["hilbert", "Raster [x]", "none"]),
        (("mixer!=wkv",), ["hilbert", "Raster [x]", "none"]),
        (("label=r*",), ["Raster [x]"]),
        (("label=Raster [x]",), ["Raster [x]"]),
        (("psnr>20",), ["cross", "none"]),
        (("psnr>=20", "params<=1.5M"), ["cross"]),
        (("psnr = 22",), ["cross"]),
        (("params<1M",), ["Raster [x]"]),
        (("n=2",), ["hilbert", "cross", "Raster [x]", "none"]),
        (("testset=photos", "protocol=full_*", "select=last", "kind=ours"), ["hilbert", "cross", "Raster [x]", "none"]),
    ],
)
def test_conditions(conditions: tuple[str, ...], labels: list[str]) -> None:
    assert chosen(*conditions) == labels


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (("mixr=wkv",), r"--where: no column 'mixr'\. Did you mean 'mixer'"),
        (("mixer=wkw",), r"no row has mixer=wkw\. Did you mean 'wkv'"),
        (("psnr>99",), r"no row has psnr>99\. The column goes from 20 to 22"),
        (("mixer=wkv", "label=none"), "no row fulfils all of: mixer=wkv, label=none"),
        (("p<0.05",), r"no row has p<0\.05\. The column is empty"),
    ],
)
def test_conditions_that_nobody_fulfils(conditions: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chosen(*conditions)


@pytest.mark.parametrize("text", ["mixer", "=wkv", "psnr<high", "", "psnr>"])
def test_malformed_conditions(text: str) -> None:
    with pytest.raises(UsageError, match="--where"):
        Condition.parse(text)


def test_numbers_may_have_prefixes() -> None:
    assert [number_of(t) for t in ("20", "1.5M", "2 G", "1e3", "-.5", "2.5 MB", "inf")] == [
        *(20.0, 1.5e6, 2e9, 1e3, -0.5, 2.5e6, float("inf"))
    ]
    assert number_of("wkv") is None


@pytest.mark.parametrize(
    ("column", "labels"),
    [
        (None, ["hilbert", "cross", "Raster [x]", "none"]),
        ("psnr", ["cross", "none", "hilbert", "Raster [x]"]),
        ("-psnr", ["hilbert", "none", "cross", "Raster [x]"]),
        ("params", ["Raster [x]", "cross", "hilbert", "none"]),
        ("-params", ["hilbert", "cross", "Raster [x]", "none"]),
        ("label", ["cross", "hilbert", "none", "Raster [x]"]),
        ("mixer", ["hilbert", "Raster [x]", "none", "cross"]),
    ],
)
def test_sorting_by_any_column(column: str | None, labels: list[str]) -> None:
    assert [one.label for one in sort_rows(ROWS, column)] == labels


def test_what_a_row_knows() -> None:
    assert [value_of(ROWS[1], c) for c in ("psnr", "label", "mixer", "scan", "n", "verdict")] == [
        *(22.0, "cross", "wkv", "cross", 2.0, None)
    ]

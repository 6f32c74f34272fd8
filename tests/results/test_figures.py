from __future__ import annotations

import math

import pytest

from dehaze_bench.results.figures import figure, p_text, signed, title


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("psnr", 25.405, "25.41"),
        ("psnr", 38.0, "38.00"),
        ("psnr", math.inf, "∞"),
        ("psnr", math.nan, "nan"),
        ("ssim", 0.91234, "0.9123"),
        ("ciede2000", 9.456, "9.46"),
        ("niqe", 3.14159, "3.142"),
        ("params", 0, "0"),
        ("params", 581, "581"),
        ("params", 999, "999"),
        ("params", 78_200, "78.2 k"),
        ("params", 999_499, "999 k"),
        ("params", 999_600, "1.00 M"),
        ("params", 1_283_000, "1.28 M"),
        ("params", 132_450_000, "132 M"),
        ("macs", 1.23e9, "1.23 G"),
        ("macs", 287.8e9, "288 G"),
        ("macs", 1.5e12, "1.50 T"),
        ("macs_paper", 4.9e9, "4.90 G"),
        ("latency", 0.01234, "12.3 ms"),
        ("latency", 2.5, "2500 ms"),
        ("memory", 512_000_000, "512 MB"),
        ("memory", 20, "20 B"),
    ],
)
def test_figures(column: str, value: float, text: str) -> None:
    assert figure(column, value) == text


def test_printed_ssim_gets_no_invented_digit() -> None:
    assert [figure("ssim", value, printed=True) for value in (0.99, 0.994, 0.9945)] == ["0.990", "0.994", "0.9945"]


def test_differences_have_a_sign() -> None:
    assert [signed("psnr", value) for value in (0.5, -0.5, 0.0, math.inf, -math.inf, math.nan)] == [
        *("+0.50", "−0.50", "+0.00", "+∞", "−∞", "undefined")
    ]


def test_p_values() -> None:
    assert [p_text(p) for p in (0.00099, 0.001, 0.034, 0.0499, 0.04996, 0.05, 0.1, 0.71, 1.0)] == [
        *("< 0.001", "0.001", "0.034", "0.04990", "0.04996", "0.050", "0.10", "0.71", "1.00")
    ]


def test_titles() -> None:
    titles = {"psnr": "PSNR", "ciede2000": "CIEDE2000", "macs": "MACs", "niqe": "NIQE", "own": "own"}
    assert {name: title(name) for name in titles} == titles

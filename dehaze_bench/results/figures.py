"""How a number is written: decimals per metric, SI prefixes for costs."""

from __future__ import annotations

import math

_DECIMALS = {"psnr": 2, "ssim": 4, "ciede": 2, "lpips": 4}
_TITLES = {
    "params": "Params",
    "macs": "MACs",
    "macs_paper": "MACs, paper's rule",
    "latency": "Latency",
    "memory": "Memory",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "ciede2000": "CIEDE2000",
    "niqe": "NIQE",
    "brisque": "BRISQUE",
    "piqe": "PIQE",
    "musiq": "MUSIQ",
    "maniqa": "MANIQA",
    "clipiqa": "CLIP-IQA",
}
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def title(column: str) -> str:
    """The heading of a column: 'psnr' becomes 'PSNR', a name not known here stays as it is."""
    return _TITLES.get(column, column)


def decimals(column: str) -> int:
    """Decimals shown for a metric column, by the start of its name; 3 for a metric not known here."""
    return next((places for start, places in _DECIMALS.items() if column.startswith(start)), 3)


def figure(column: str, value: float, printed: bool = False) -> str:
    """Write `value` as its column wants it: 25.41, 0.9123, '1.28 M'.

    A printed SSIM keeps three decimals unless it has more: most papers round to three.
    """
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "-∞"}.get(value, "nan")
    if column in ("params", "macs", "macs_paper"):
        return with_prefix(value)
    if column == "memory":
        text = with_prefix(value)
        return f"{text}B" if " " in text else f"{text} B"
    if column == "latency":
        return f"{_three_digits(value * 1e3)} ms"
    places = decimals(column)
    if printed and places > 3 and math.isclose(round(value, 3), value, abs_tol=1e-9):
        places = 3
    return f"{value:.{places}f}"


def signed(column: str, value: float) -> str:
    """Write a difference with its sign and a true minus: '+0.52', '−0.0031'."""
    if math.isnan(value):
        return "undefined"
    return ("−" if value < 0 else "+") + figure(column, abs(value))


def p_text(p: float) -> str:
    """Write a p value so that it shows on which side of 0.05 it lies: 0.034, 0.71, '< 0.001'."""
    if p < 0.001:
        return "< 0.001"
    text = f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
    return text if (float(text) < 0.05) == (p < 0.05) else f"{p:.5f}"


def with_prefix(value: float) -> str:
    """Three significant digits and an SI prefix: 78200 is '78.2 k', 1.23e9 is '1.23 G', 581 is '581'."""
    for size, prefix in _PREFIXES:
        if float(f"{abs(value):.3g}") >= size:
            return f"{_three_digits(value / size)} {prefix}"
    return _three_digits(value).rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"


def _three_digits(value: float) -> str:
    rounded = float(f"{value:.3g}")
    places = 2 if abs(rounded) < 10 else 1 if abs(rounded) < 100 else 0
    return f"{rounded:.{places}f}"

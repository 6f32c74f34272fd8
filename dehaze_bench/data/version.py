"""Which published edition of a data set lies on disk: the one rule of `data info` and `data verify`."""

from __future__ import annotations

from dehaze_bench.data.known import Part


def tell_version(part: Part, hazy: int, clear: int, scenes: int, growth: int | None) -> str:
    """Return which published version this is, "X or Y" where the counts leave it open, "" where there is but one.

    `growth` is how many pixels a clear picture is wider than its hazy one: 0 in ITS v2, 20 in v0; None if it varies.
    """
    if len(part.versions) < 2:
        return ""
    fits = []
    for version in part.versions:
        exact = hazy == version.hazy
        if exact or (hazy < version.hazy and min(clear, scenes) <= version.clear):
            sizes = version.clear_size, version.hazy_size
            expected = sizes[0][0] - sizes[1][0] if sizes[0] and sizes[1] else growth
            if growth is None or growth == expected:
                fits.append((exact, version.name))
    if any(exact for exact, _ in fits):
        return next(name for exact, name in fits if exact)
    if not fits:
        return "none of " + ", ".join(version.name for version in part.versions)
    return " or ".join(name for _, name in fits)


def describe_version(part: Part | None, hazy: int, clear: int, scenes: int, growth: int | None) -> tuple[str, bool]:
    """Return the version in words, and whether the number of hazy pictures is its published one."""
    if part is None or not part.versions:
        return f"no published count is known; {hazy:,} here", True
    told = tell_version(part, hazy, clear, scenes, growth)
    if any(version.hazy == hazy and told in ("", version.name) for version in part.versions):
        return f"{told}: {hazy:,}, as published".removeprefix(": "), True
    published = " or ".join(f"{v.hazy:,} ({v.name})" if v.name else f"{v.hazy:,}" for v in part.versions)
    return f"{hazy:,} here, published {published}" + (f"; by count and size {told}" if told else ""), False


def width_growth(hazy_sizes: list[tuple[int, int]], clear_sizes: list[tuple[int, int]]) -> int | None:
    """Return how much wider clear pictures are, from the (width, height) that occur; None where several do."""
    if len(hazy_sizes) != 1 or len(clear_sizes) != 1:
        return None
    return clear_sizes[0][0] - hazy_sizes[0][0]

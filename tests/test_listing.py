"""What `ls` prints, from the files themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from dehaze_bench import listing, registry
from dehaze_bench.errors import UsageError

HEADS = ("scan   ",)


def test_overview_counts_what_there_is() -> None:
    text = listing.lines(None)
    assert f"{'models':12}{len(registry.list_choices('model'))}" in text
    assert text.endswith("experiments\nreferences\nruns")


@pytest.mark.parametrize("what", listing.GROUPS)
def test_every_group_lists_every_file(what: str) -> None:
    shown = {line.split()[0] for line in listing.lines(what).splitlines() if not line.startswith(HEADS)}
    assert shown == set(registry.list_choices(listing.GROUPS[what]))
    assert shown


def test_scans_have_their_locality() -> None:
    head, *rest = listing.lines("scans").splitlines()
    columns = {line.split()[0]: line.split(maxsplit=3)[1:] for line in rest}
    assert head.split() == ["scan", "locality", "nearest", "description"]
    assert columns["raster"] == ["8.5", "8.5", "Row by row, one route"]
    assert columns["cross"][:2] == ["8.5", "1.0"]
    assert columns["native"][:2] == columns["by_content"][:2] == columns["atrous"][:2] == ["n/a", "n/a"]
    raster = (7 * 8 * 4 * 1 + 7 * 8 * 4 * 8 + 3 * 64 * 64) / (7 * 8 * 4 * 2 + 3 * 64)
    assert columns["spatial_first"][0] == f"{raster:.1f}"
    assert len({line.index(line.split(maxsplit=3)[3]) for line in rest}) == 1


def test_a_scan_that_cannot_be_measured_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "conf" / "scan"
    folder.mkdir(parents=True)
    (folder / "broken.yaml").write_text("# Mine\n_target_: dehaze_bench.scans.Scan\norder: {_target_: nowhere.f}\n")
    (tmp_path / "scans_that_fail.py").write_text("def odd(grid):\n    return [[0] * 99999]\n")
    order = "{_target_: scans_that_fail.odd, _partial_: true}"
    (folder / "odd.yaml").write_text(f"# Odd\n_target_: dehaze_bench.scans.Scan\norder: {order}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("DEHAZE_TARGETS", "nowhere,scans_that_fail")
    lines = {line.split()[0]: line for line in listing.lines("scans").splitlines()}
    assert "n/a" in lines["broken"]
    reason = "'order._target_' names 'nowhere.f', which cannot be imported: No module named 'nowhere'"
    assert f"Mine ({reason})" in lines["broken"]
    assert lines["raster"].split()[1] == "8.5"


def test_every_group_of_the_tree_can_be_asked_for() -> None:
    assert set(listing.GROUPS.values()) == set(registry.list_groups())


def test_experiments_have_titles() -> None:
    assert any(
        line.startswith("demo ") and "Demonstration" in line for line in listing.lines("experiments").split("\n")
    )


def test_runs_of_an_empty_folder(tmp_path: Path) -> None:
    assert "no runs" in listing.lines("runs", [f"paths.runs={tmp_path}"])
    with pytest.raises(UsageError, match=r"paths\.runs=DIR only"):
        listing.lines("runs", ["foo=1"])


def test_unknown_listing_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="'models'"):
        listing.lines("modls")


@pytest.mark.parametrize(
    ("text", "described"),
    [
        ("# plain\na: 1\n", "plain"),
        ("# @package _global_\n# after the directive\na: 1\n", "after the directive"),
        ("a: 1\n# too late\n", ""),
        ("", ""),
    ],
)
def test_describe(tmp_path: Path, text: str, described: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    assert registry.describe(path) == described

"""What `ls` prints, from the files themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from dehaze_bench import listing, registry
from dehaze_bench.errors import UsageError


def test_overview_counts_what_there_is() -> None:
    text = listing.lines(None)
    assert f"{'models':12}{len(registry.list_choices('model'))}" in text
    assert text.endswith("experiments\nruns")


@pytest.mark.parametrize("what", listing.GROUPS)
def test_every_group_lists_every_file(what: str) -> None:
    shown = {line.split()[0] for line in listing.lines(what).splitlines()}
    assert shown == set(registry.list_choices(listing.GROUPS[what]))
    assert shown


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

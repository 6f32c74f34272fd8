from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dehaze_bench.errors import UsageError
from dehaze_bench.results.cells import Cell, Table
from dehaze_bench.results.reference import ReferenceRow, ReferenceSet
from dehaze_bench.results.store import Store
from dehaze_bench.results.tables import build_table, comparison
from tests.results.fabricated import MakeExperiment, MakeRun

Ids = list[list[str]]


@pytest.fixture
def build(store: Store, make_experiment: MakeExperiment) -> Callable[..., Table]:
    """Build a table whose rows are called a, b, c, ... from lists of run ids."""

    def run(ids: Ids, references: tuple[ReferenceSet, ...] = (), **changes: Any) -> Table:
        experiment = make_experiment(*"abcdefgh"[: len(ids)], **changes)
        return build_table(experiment, list(zip(experiment.rows, ids, strict=True)), store, references)

    return run


def cell(table: Table, label: str, column: str) -> Cell:
    row = next(row for row in table.rows if row.label == label)
    return next(cell for cell in row.cells if cell.column == column)


def marks(table: Table, column: str) -> dict[str, str]:
    return {row.label: cell(table, row.label, column).mark for row in table.rows}


def reference(protocol: str, testset: str = "photos", **values: float) -> ReferenceSet:
    row = ReferenceRow("paper", {"psnr": 99.0} | values, testset, protocol, "a paper, Table 1", "read")
    return ReferenceSet(testset, "", (256, 256), (row,))


def test_mean_std_and_provenance_over_seeds(build: Callable[..., Table], make_run: MakeRun) -> None:
    make_run("00000001", psnr=20.0, seed=0)
    make_run("00000002", psnr=22.0, seed=1)
    table = build([["00000001", "00000002"]])
    psnr = cell(table, "a", "psnr")
    assert (psnr.value, psnr.std, psnr.n) == (21.0, pytest.approx(2**0.5), 2)
    assert psnr.runs == ("00000001", "00000002")
    assert psnr.group == ("photos", "full_rgb", "last")
    assert (psnr.kind, psnr.higher, psnr.missing) == ("ours", True, "")
    params = cell(table, "a", "params")
    assert (params.value, params.std, params.higher) == (78200, None, None)


def test_missing_failed_and_partial_rows_say_so(
    build: Callable[..., Table], make_run: MakeRun, make_failure: Callable[[str, str], Path], store: Store
) -> None:
    make_run("00000001")
    make_failure("00000002", "loss is nan\nat step 7")
    (store.root / "unet-00000003").mkdir()
    (store.root / "unet-00000003" / "last.pt").touch()
    table = build([["0000000a"], ["00000002"], ["00000003"], ["00000001", "0000000b"], ["0000000c", "00000002"]])
    assert [cell(table, label, "psnr").missing for label in "abcde"] == [
        "not run",
        "failed: RuntimeError: loss is nan",
        "interrupted",
        "1 of 2 seeds (not run)",
        "not run; failed: RuntimeError: loss is nan",
    ]
    assert [cell(table, label, "psnr").value for label in "abcde"] == [None, None, None, 17.3, None]
    partial = next(row for row in table.rows if row.label == "d")
    assert (partial.done, partial.planned, cell(table, "d", "psnr").n) == (1, 2, 1)
    assert partial.note is not None
    assert table.notes[partial.note - 1] == "1 of 2 seeds (not run)"


def test_best_and_second_follow_the_direction_of_the_metric(build: Callable[..., Table], make_run: MakeRun) -> None:
    for index, (psnr, ciede) in enumerate([(20.0, 5.0), (22.0, 9.0), (21.0, 7.0)], start=1):
        make_run(f"0000000{index}", psnr=psnr, ciede2000=ciede)
    table = build([["00000001"], ["00000002"], ["00000003"]])
    assert marks(table, "psnr") == {"a": "", "b": "best", "c": "second"}
    assert marks(table, "ciede2000") == {"a": "best", "b": "", "c": "second"}
    assert set(marks(table, "params").values()) == {""}


def test_ties_as_printed_share_the_mark(build: Callable[..., Table], make_run: MakeRun) -> None:
    for index, psnr in enumerate([20.001, 20.004, 19.0, 19.0], start=1):
        make_run(f"0000000{index}", psnr=psnr)
    table = build([["00000001"], ["00000002"], ["00000003"]])
    assert marks(table, "psnr") == {"a": "best", "b": "best", "c": ""}
    assert set(marks(table, "ssim").values()) == {""}, "all equal: nobody is best"
    assert marks(build([["00000001"], ["00000003"], ["00000004"]]), "psnr") == {
        "a": "best",
        "b": "second",
        "c": "second",
    }


@pytest.mark.parametrize("field", ["protocol", "testset", "select"])
def test_groups_do_not_compete(build: Callable[..., Table], make_run: MakeRun, field: str) -> None:
    make_run("00000001", psnr=20.0)
    make_run("00000002", psnr=21.0)
    make_run("00000003", psnr=30.0, evaluation={field: "other"})
    make_run("00000004", psnr=31.0, evaluation={field: "other"})
    make_run("00000005", psnr=40.0, evaluation={field: "alone"})
    table = build([[f"0000000{index}"] for index in range(1, 6)])
    assert marks(table, "psnr") == {"a": "second", "b": "best", "c": "second", "d": "best", "e": ""}
    assert len(table.groups) == 3


def test_rows_without_a_selection_compete_with_every_rule(build: Callable[..., Table], make_run: MakeRun) -> None:
    make_run("00000001", psnr=20.0)
    make_run("00000002", psnr=21.0)
    make_run("00000003", psnr=30.0, evaluation={"select": "best@test"})
    make_run("00000004", psnr=31.0, evaluation={"select": "best@test"})
    for index, psnr in enumerate((10.0, 25.0, 40.0), start=5):
        make_run(f"0000000{index}", psnr=psnr, train=None, evaluation={"select": "none", "step": None})
    trained = [[f"0000000{index}"] for index in range(1, 5)]
    weak, middle, strong = (build([*trained, [f"0000000{index}"]]) for index in (5, 6, 7))
    assert marks(weak, "psnr") == {"a": "second", "b": "best", "c": "second", "d": "best", "e": ""}
    assert marks(middle, "psnr") == {"a": "", "b": "second", "c": "second", "d": "best", "e": ""}
    assert marks(strong, "psnr") == {"a": "", "b": "second", "c": "", "d": "second", "e": "best"}
    assert marks(build([["00000005"], ["00000006"]]), "psnr") == {"a": "second", "b": "best"}


def test_runs_of_one_row_must_share_their_group(build: Callable[..., Table], make_run: MakeRun) -> None:
    make_run("00000001")
    make_run("00000002", evaluation={"protocol": "full_y"})
    with pytest.raises(UsageError, match=r"row 'a' cannot be averaged: .*full_rgb.*full_y"):
        build([["00000001", "00000002"]])


@pytest.mark.parametrize(
    ("protocol", "testset", "flagged"),
    [("full_rgb", "photos", False), ("dehazeformer", "photos", True), ("full_rgb", "sots_indoor", True)],
)
def test_printed_numbers_never_compete(
    build: Callable[..., Table], make_run: MakeRun, protocol: str, testset: str, flagged: bool
) -> None:
    make_run("00000001", psnr=20.0)
    make_run("00000002", psnr=21.0)
    table = build([["00000001"], ["00000002"]], (reference(protocol, testset, params=1e6),))
    assert marks(table, "psnr") == {"a": "second", "b": "best", "paper": ""}
    printed = cell(table, "paper", "psnr")
    assert (printed.kind, printed.value, printed.n, printed.std) == ("printed", 99.0, 0, None)
    assert printed.flagged is flagged
    assert cell(table, "paper", "params").flagged is False
    assert cell(table, "paper", "ssim").missing == "not published"
    note = table.notes[next(row.note for row in table.rows if row.label == "paper") - 1]  # type: ignore[operator]
    assert note == f"printed: a paper, Table 1 (read); protocol {protocol} on {testset}"


def test_kinds(build: Callable[..., Table], make_run: MakeRun) -> None:
    make_run("00000001", train=None, evaluation={"step": None})
    make_run("00000002", train=None, kind="rerun")
    make_run("00000003", psnr=10.0)
    table = build([["00000001"], ["00000002"], ["00000003"]])
    assert [(row.kind, row.untrained) for row in table.rows] == [("ours", True), ("rerun", False), ("ours", False)]
    assert marks(table, "psnr") == {"a": "best", "b": "best", "c": ""}, "untrained rows compete like all others"


def test_sorting_puts_best_first_and_missing_last(build: Callable[..., Table], make_run: MakeRun) -> None:
    make_run("00000001", psnr=20.0, ciede2000=5.0)
    make_run("00000002", psnr=21.0, ciede2000=6.0)
    ids = [["0000000a"], ["00000001"], ["00000002"]]
    order = {
        sort: [row.label for row in build(ids, (reference("full_rgb"),), sort=sort).rows]
        for sort in (None, "psnr", "ciede2000", "params")
    }
    assert order == {
        None: ["a", "b", "c", "paper"],
        "psnr": ["c", "b", "a", "paper"],
        "ciede2000": ["b", "c", "a", "paper"],
        "params": ["b", "c", "a", "paper"],
    }


def test_printed_rows_are_sorted_like_the_measured_ones(build: Callable[..., Table], make_run: MakeRun) -> None:
    rows = tuple(ReferenceRow(f"p{v}", {"psnr": v}, "photos", "x", "s", "read") for v in (1.0, 3.0, 2.0))
    references = (ReferenceSet("photos", "", None, rows),)
    make_run("00000001")
    assert [row.label for row in build([["00000001"]], references, sort="psnr").rows] == ["a", "p3.0", "p2.0", "p1.0"]


def test_unknown_column_is_an_error_once_something_ran(build: Callable[..., Table], make_run: MakeRun) -> None:
    assert cell(build([["00000001"]], columns=("psnrr",)), "a", "psnrr").missing == "not run"
    make_run("00000001")
    with pytest.raises(UsageError, match=r"no run measured column 'psnrr'\. Did you mean 'psnr'"):
        build([["00000001"]], columns=("psnrr",))


def test_column_measured_by_some_rows_only(build: Callable[..., Table], make_run: MakeRun) -> None:
    make_run("00000001")
    niqe = {"psnr": {}, "ciede2000": {}, "niqe": {"mean": 3.0, "std": 0.1, "higher": False}}
    both = {"std": 1.0, "higher": True}
    niqe["psnr"], niqe["ciede2000"] = {"mean": 1.0, **both}, {"mean": 1.0, **both}
    make_run("00000002", evaluation={"metrics": niqe})
    table = build([["00000001"], ["00000002"]], columns=("psnr", "niqe"))
    assert cell(table, "a", "niqe").missing == "not measured"
    assert cell(table, "b", "niqe").value == 3.0


def test_footer_states_the_conditions(build: Callable[..., Table], make_run: MakeRun) -> None:
    make_run("00000001", seed=3)
    make_run("00000002", seed=5, evaluation={"select": "best@test"})
    text = "\n".join(build([["00000001"], ["00000002"]], (reference("x"),)).footer)
    for fact in (
        "Protocol full_rgb on photos (n = 14 images): RGB, full size",
        "best@test (best weights on the test set itself: optimistic",
        "Seeds: 3, 5",
        "400 steps, 3200 images",
        "Input size of the MACs: 256 x 256",
        "Input size of the printed MACs: 256 x 256",
        "Decoder: Pillow 12.0.0",
        "torch 2.13.0+cpu",
        "A small table.",
    ):
        assert fact in text


def test_comparison_is_flat(build: Callable[..., Table], make_run: MakeRun) -> None:
    make_run("00000001", psnr=20.0)
    make_run("00000002", psnr=22.0)
    columns, rows = comparison(
        build([["00000001", "00000002"], ["0000000a"]], (reference("x"),), columns=("psnr", "params"))
    )
    first, second, printed = (dict(zip(columns, row, strict=True)) for row in rows)
    assert (first["label"], first["model"], first["mixer"], first["scan"]) == ("a", "unet", "mamba", "cross")
    assert (first["psnr"], first["psnr_n"], first["params"]) == (21.0, 2, 78200)
    assert first["runs"] == "00000001 00000002"
    assert (second["psnr"], second["psnr_n"], second["protocol"]) == (None, 0, None)
    assert (printed["kind"], printed["protocol"]) == ("printed", "x")


def test_published_rows_stand_by_test_set_and_say_their_doubt_and_what_else_was_printed(
    build: Callable[..., Table], make_run: MakeRun
) -> None:
    doubtful = ReferenceRow("p", {"psnr": 1.0}, "photos", "x", "Paper A, table", "unverified", "others print 2.0")
    plain = ReferenceRow("q", {"psnr": 2.0}, "sots_indoor", "x", "Paper B, table", "read")
    sets = (ReferenceSet("photos", "", None, (doubtful,)), ReferenceSet("sots_indoor", "", None, (plain,)))
    make_run("00000001")
    rows = build([["00000001"]], sets, sort="psnr").rows
    assert [(row.label, row.group and row.group.testset) for row in rows[1:]] == [
        ("p (unverified)", "photos"),
        ("q", "sots_indoor"),
    ]
    assert rows[1].remark.endswith("; others print 2.0")
    assert sets[0].only("Paper A").rows == (doubtful,)
    assert sets[0].only("Paper B").rows == ()
    assert sets[0].only(None) is sets[0]

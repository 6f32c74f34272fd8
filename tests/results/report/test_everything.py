from __future__ import annotations

from pathlib import Path

import pytest

from dehaze_bench.results.reference import ReferenceRow, ReferenceSet
from dehaze_bench.results.report.everything import tabulate
from dehaze_bench.results.statistics import summarise
from dehaze_bench.results.store import Store
from tests.results.fabricated import MakeRun


def config(seed: int, **settings: object) -> dict[str, object]:
    return {"model": {"_target_": "x", **settings}, "seed": seed}


def test_runs_that_differ_in_the_seed_alone_are_one_row(store: Store, make_run: MakeRun) -> None:
    values = [20.0, 21.0, 23.5]
    for seed, value in enumerate(values):
        make_run(f"0000000{seed}", psnr=value, seed=seed, config=config(seed))
    make_run("0000000a", psnr=30.0, seed=0, config=config(0, width=32))
    (table,) = tabulate(store.runs(), store, [])
    assert [row.label for row in table.rows] == [
        "unet, mamba, cross (model.width=32)",
        "unet, mamba, cross",
    ]
    cell = next(cell for cell in table.rows[1].cells if cell.column == "psnr")
    expected = summarise(values)
    assert (cell.value, cell.std, cell.n) == (expected.mean, expected.std, 3)
    assert cell.runs == ("00000000", "00000001", "00000002")


def test_a_label_is_written_as_it_is_typed(store: Store, make_run: MakeRun) -> None:
    for name, settings in {"1": {"depths": [1, 2]}, "2": {"depths": None}, "3": {"depths": [4], "ffn": "conv"}}.items():
        make_run(f"0000000{name}", psnr=20.0 - int(name), config=config(0, **settings))
    (table,) = tabulate(store.runs(), store, [])
    assert [row.label for row in table.rows] == [
        "unet, mamba, cross (model.depths=[1,2])",
        "unet, mamba, cross",
        "unet, mamba, cross (model.depths=[4], model.ffn=conv)",
    ]


def test_each_test_set_and_protocol_is_a_table_of_its_own(store: Store, make_run: MakeRun) -> None:
    make_run("00000001")
    make_run("00000002", evaluation={"testset": "sots_indoor"})
    make_run("00000003", evaluation={"protocol": "full_y"})
    tables = tabulate(store.runs(), store, [])
    assert [table.title for table in tables] == [
        "photos, protocol full_rgb",
        "photos, protocol full_y",
        "sots_indoor, protocol full_rgb",
    ]


def test_published_numbers_stand_below_the_runs_on_their_test_set(store: Store, make_run: MakeRun) -> None:
    make_run("00000001")
    row = ReferenceRow("AOD-Net", {"psnr": 19.06}, "photos", "other", "Table 1", "read")
    (table,) = tabulate(store.runs(), store, [ReferenceSet("photos", "", None, (row,))])
    assert [(row.label, row.kind) for row in table.rows] == [("unet, mamba, cross", "ours"), ("AOD-Net", "printed")]
    assert all(cell.flagged for cell in table.rows[1].cells if cell.column == "psnr")


def test_evaluations_of_brothers_by_seed_are_one_row(store: Store, make_run: MakeRun) -> None:
    for seed in (0, 1):
        make_run(f"0000000{seed}", seed=seed, config=config(seed))
        weights = {"model": {"_target_": "x"}, "seed": seed, "weights": f"0000000{seed}"}
        make_run(f"0000001{seed}", seed=seed, verb="eval", config=weights, evaluation={"testset": "sots"})
    make_run("00000002", seed=0, config=config(0, width=8))
    other = {"model": {"_target_": "x"}, "seed": 0, "weights": "00000002"}
    make_run("00000012", seed=0, verb="eval", config=other, evaluation={"testset": "sots"})
    table = next(table for table in tabulate(store.runs(), store, []) if table.title.startswith("sots"))
    assert sorted(row.done for row in table.rows) == [1, 2]


@pytest.mark.parametrize("states", [[], ["failed"]])
def test_nothing_done_is_no_table(store: Store, make_failure: object, states: list[str], tmp_path: Path) -> None:
    for _ in states:
        make_failure("00000001", "lost")  # type: ignore[operator]
    assert tabulate(store.runs(), store, []) == []

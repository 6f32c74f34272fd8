"""Every recipe composes into a config whose keys and arguments are known, and every table of a paper plans its runs."""

from __future__ import annotations

import pytest

from dehaze_bench import config, sweep
from dehaze_bench.compose import compose_run
from dehaze_bench.registry import list_choices

PAPERS = (
    "sots_indoor", "sots_outdoor", "reside6k", "rshaze", "haze4k", "real_paired", "satehaze1k", "all_in_one",
    "uvmnet_table", "dehazeformer_table", "gunet_table",
)  # fmt: skip


@pytest.mark.parametrize("name", list_choices("recipe"))
def test_recipe_is_sound(name: str) -> None:
    composed = compose_run([f"recipe={name}"])
    config.check(composed.cfg)
    assert list_choices("recipe")[name]
    assert composed.cfg.train.steps > 0
    if name != "dehazeformer_its":  # for any model
        assert name.startswith(composed.choices["model"])
    assert compose_run([f"recipe={name}", "model=unet"]).choices["model"] == "unet"


@pytest.mark.parametrize("name", PAPERS)
def test_table_of_a_paper_plans_its_runs(name: str) -> None:
    plan = sweep.plan(name)
    assert plan.experiment.references
    ids = [run.id for run in plan.runs]
    assert len(set(ids)) == len(ids)
    assert {run.state for run in plan.runs} <= {"empty", "absent"}
    assert any(row.kind == "printed" for row in sweep.table_of(plan).rows)

"""The experiment files on design axes and directions: every row composes and passes its check."""

from __future__ import annotations

import pytest

from dehaze_bench import build, config, sweep
from dehaze_bench.compose import compose_run
from dehaze_bench.registry import experiment_dirs, list_choices
from dehaze_bench.results.experiment import Experiment, find_experiment, is_profile, list_experiments
from dehaze_bench.scans.windows import CANDIDATES

# Solving every width for the budget takes minutes; tests/models/test_unet.py does it once for every mixer.
WIDTH = ("model.match.params=null", "model.width=4")


def load(name: str) -> Experiment:
    return Experiment.load(find_experiment(name, experiment_dirs()))


@pytest.mark.parametrize(
    ("name", "more"), [pytest.param("block_design", WIDTH, marks=pytest.mark.slow), ("direction_search", ())]
)
def test_every_row_is_sound(name: str, more: tuple[str, ...]) -> None:
    ids = []
    for job in load(name).jobs():
        composed = compose_run((*job.overrides, *more))
        build.check(composed.cfg)
        ids.append(config.identify(config.scientific(composed.cfg), composed.choices).id)
    assert len(set(ids)) == len(ids)


@pytest.mark.slow
@pytest.mark.parametrize("name", [found.name for found in list_experiments(experiment_dirs())])
def test_every_budget_is_met_by_some_width(name: str) -> None:
    if not is_profile(find_experiment(name, experiment_dirs())):
        for row in {planned.job.row: planned for planned in sweep.plan(name).runs}.values():
            build.meta_model(compose_run(row.overrides).cfg)


def test_block_design_has_a_row_for_every_choice() -> None:
    experiment = load("block_design")
    assert "model.depths=[2,2,2,2,2]" in experiment.base
    values = {text for row in experiment.rows for text in row.overrides}
    assert {text.split("=")[1] for text in values if text.startswith("model/mixer=")} == set(
        list_choices("model/mixer")
    )
    assert values >= {f"model.mixer.init={name}" for name in ("inv", "real", "legs", "random", "constant")}
    assert values >= {"model.mixer.d_state=1", "model.mixer.d_state=4", "model.mixer.dt_rank=1"}
    assert values >= {"model.mixer.gate=false", "model.ffn=conv", "model.extra_norm=true", "model.connect_states=true"}


@pytest.mark.parametrize(
    "choice",
    [
        "model.mixer.gate=false",
        "model.mixer.init=constant",
        "model.mixer.dt_rank=16",
        "model.connect_states=true",
        "model.extra_norm=true",
    ],
)
def test_a_choice_differs_from_the_baseline_in_one_key(choice: str) -> None:
    experiment = load("block_design")
    baseline, *others = experiment.rows
    (row,) = (row for row in others if choice in row.overrides)
    assert set(row.overrides) - set(baseline.overrides) == {choice}
    build.check(compose_run((*experiment.base, *row.overrides, *WIDTH)).cfg)


def test_the_found_rows_keep_four_directions_of_the_candidates_in_every_layer() -> None:
    experiment = load("direction_search")
    found = [row for row in experiment.rows if "found" in row.label]
    assert len(found) == 2
    for row in found:
        backbone = compose_run((*experiment.base, *row.overrides)).cfg.model.backbone
        layers = backbone.depth if "depth" in backbone else sum(backbone.depths)
        assert len(backbone.directions) == layers
        assert all(len(set(names)) == 4 and set(names) <= set(CANDIDATES) for names in backbone.directions)

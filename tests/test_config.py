"""Run identity: what it depends on, and what it must not depend on; checks of keys, types and ranges."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest

from dehaze_bench import config
from dehaze_bench.compose import Composed, compose_run
from dehaze_bench.errors import UsageError
from dehaze_bench.registry import list_choices, list_groups


@cache
def identity(*overrides: str, verb: str = "train") -> config.Identity:
    composed = compose_run(overrides)
    return config.identify(config.scientific(composed.cfg), composed.choices, verb)


@pytest.fixture(scope="module")
def base() -> Composed:
    return compose_run([])


def test_identity_does_not_depend_on_the_order_of_keys(base: Composed) -> None:
    def reverse(value: Any) -> Any:
        return {k: reverse(value[k]) for k in reversed(value)} if isinstance(value, dict) else value

    half = config.scientific(base.cfg)
    assert list(reverse(half)) != list(half)
    assert config.identify(reverse(half), base.choices) == config.identify(half, base.choices)


def test_identity_ignores_where_and_how(base: Composed) -> None:
    elsewhere = [
        "paths.runs=elsewhere", "paths.data=/data", "paths.tables=t", "track=wandb", "track.project=other",
        "runtime.device=cpu", "runtime.threads=3", "runtime.workers=2", "runtime.log_every=1", "runtime.save_every=7",
        "runtime.deterministic=true", "testset.cache_dir=/tmp/somewhere", "dataset.cache_scenes=5", "seed=0",
    ]  # fmt: skip
    assert identity(*elsewhere) == config.identify(config.scientific(base.cfg), base.choices)


@pytest.mark.parametrize("override", ["seed=1", "runtime.precision=bf16", "+optimizer.eps=1e-7", "testset=sots_indoor"])
def test_identity_changes_with_scientific_overrides(override: str) -> None:
    assert identity(override).id != identity().id


def test_identity_changes_with_every_leaf_of_the_scientific_half(base: Composed) -> None:
    half = config.scientific(base.cfg)
    before = config.identify(half, base.choices).id

    def leaves(node: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        found = []
        for key, value in node.items():
            found += leaves(value, (*path, key)) if isinstance(value, dict) and value else [(*path, key)]
        return found

    paths = leaves(half)
    assert ("train", "steps") in paths
    assert not {path[0] for path in paths} & set(config.OPERATIONAL)
    for path in paths:
        changed = copy.deepcopy(half)
        node = changed
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = "another"
        assert config.identify(changed, base.choices).id != before, path


def test_identity_depends_on_verb_and_numerics(base: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    half = config.scientific(base.cfg)
    before = config.identify(half, base.choices).id
    assert config.identify(half, base.choices, "eval").id != before
    monkeypatch.setattr(config, "NUMERICS", config.NUMERICS + 1)
    assert config.identify(half, base.choices).id != before


def test_slug_names_the_choices() -> None:
    assert identity("model/mixer=wkv", "scan=cross").slug == "unet-wkv-cross-deadleaves"
    assert identity().slug == "unet-mamba-deadleaves", "the native scan is not worth a word"
    assert identity("model=dcp", "testset=sots_indoor", verb="eval").slug == "dcp-eval-sots_indoor"
    found = identity()
    assert found.name == f"{found.slug}-{found.id}"
    assert len(found.id) == 8


def test_a_data_root_is_a_place_and_no_part_of_a_run() -> None:
    assert identity("dataset=its", "paths.data=/a") == identity("dataset=its", "paths.data=/b")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.steps=0"], ["train.steps=0", "least is 1"]),
        (["train.batch=-2"], ["train.batch=-2"]),
        (["train.crop=4"], ["train.crop=4", "8"]),
        (["train.accumulate=3"], ["train.accumulate=3", "train.batch=8"]),
        (["train.eval_every=0"], ["train.eval_every=0", "null"]),
        (["train.ema=1.5"], ["train.ema=1.5", "between 0 and 1"]),
        (["train.clip=0"], ["train.clip=0", "null"]),
        (["train.select=best"], ["train.select=best", "best@val"]),
        (["train.select=best@val"], ["train.val_images"]),
        (["train.select=best@test"], ["train.eval_every"]),
        (["train.augment=[flap]"], ["train.augment", "'flip'"]),
        (["runtime.precision=fp8"], ["runtime.precision=fp8", "bf16"]),
        (["runtime.workers=-1"], ["runtime.workers=-1"]),
        (["runtime.threads=0"], ["runtime.threads=0", "null"]),
        (["runtime.save_every=0"], ["runtime.save_every=0"]),
        (["seed=-1"], ["seed=-1"]),
        (["paths.runs="], ["paths.runs", "empty"]),
        (["+optimizer.lrr=1"], ["optimizer.lrr", "'lr'"]),
        (["++optimizer.lrr=1"], ["optimizer.lrr", "'lr'"]),
        (["+train.stepps=1"], ["train.stepps", "'steps'"]),
        (["+sed=1"], ["'sed'", "'seed'"]),
        (["model/mixer=conv", "++model.mixer.kernell=3"], ["model.mixer.kernell", "'kernel'"]),
        (["+scan.order=x"], ["scan.order", "native"]),
        (["scan=random", "+scan.order.sed=1"], ["scan.order.sed", "'seed'"]),
        (["model.width=abc"], ["model.width=abc", "number"]),
        (["model.depths=3"], ["model.depths=3", "list"]),
        (["model.depths=[1,1,x,1,1]"], ["model.depths", "list of numbers"]),
        (["model.patch=2.5"], ["model.patch=2.5", "whole number"]),
        (["model.mixer=conv"], ["model.mixer=conv"]),
        (["optimizer.lr=abc"], ["optimizer.lr=abc", "number"]),
        (["optimizer.betas=[1,2,3]"], ["optimizer.betas", "list"]),
        (["model._target_=torch.nn.Nowhere"], ["model._target_", "torch.nn.Nowhere"]),
        (["~seed"], ["'seed'"]),
        (["~scan"], ["'scan'", "scan="]),
        (["~model.mixer"], ["model.mixer"]),
        (["~model._target_"], ["model._target_"]),
        (["testset=pairs"], ["testset.clear"]),
        (["dataset=pairs", "dataset.clear=x"], ["dataset.hazy"]),
    ],
)
def test_check_names_the_thing_and_the_remedy(overrides: list[str], words: list[str]) -> None:
    composed = compose_run(overrides)
    with pytest.raises(UsageError) as caught:
        config.check(composed.cfg)
    for word in words:
        assert word in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


def rows_of_choices() -> list[list[str]]:
    """Return rows of overrides that name every packaged choice of every group at least once."""
    nested = ("recipe", "model/mixer", "model/backbone")
    groups = {group: list(list_choices(group)) for group in list_groups() if group not in nested}
    rows = []
    for k in range(max(len(names) for names in groups.values())):
        row = {group: names[k % len(names)] for group, names in groups.items()}
        named = [f"{g}.{side}=x" for g in ("dataset", "testset") if row[g] == "pairs" for side in ("hazy", "clear")]
        rows.append([*(f"{group}={name}" for group, name in row.items()), *named])
    rows += [[f"model/mixer={name}"] for name in list_choices("model/mixer")]
    return rows + [[f"model/backbone={name}", "model=pyramid"] for name in list_choices("model/backbone")]


@pytest.mark.parametrize("row", rows_of_choices(), ids=lambda row: row[0])
def test_every_packaged_choice_binds_to_its_target(row: list[str]) -> None:
    config.check(compose_run(row).cfg)


def test_describe_type_speaks_of_schema_keys_only() -> None:
    assert config.describe_type("train.steps") == "a whole number"
    assert config.describe_type("train.clip") == "a number or null"
    assert config.describe_type("train.augment") == "a list such as [a,b]"
    assert config.describe_type("model.width") is None
    assert config.describe_type("train") is None


def test_a_key_that_came_later_does_not_move_older_runs() -> None:
    composed = compose_run(["dataset=ots"])
    half = config.scientific(composed.cfg)
    assert "exclude_test_scenes" not in half["dataset"]
    excluded = compose_run(["dataset=ots", "dataset.exclude_test_scenes=true"])
    assert config.scientific(excluded.cfg)["dataset"]["exclude_test_scenes"] is True
    assert config.identify(half, {}) != config.identify(config.scientific(excluded.cfg), {})


def test_keys_that_came_later_leave_the_identity_of_older_configs(base: Composed) -> None:
    half = config.scientific(base.cfg)
    assert not {"nonfinite", "max_skipped"} & half["train"].keys()
    assert identity("train.nonfinite=skip").id != identity().id
    assert identity("runtime.compile=true", "runtime.keep_every=5", "runtime.channels_last=true").id == identity().id


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["train.nonfinite=skp"], "Did you mean 'skip'"),
        (["train.max_skipped=0"], "train.nonfinite=stop skips none"),
        (["runtime.keep=0"], "runtime.keep=0 must be at least 1"),
        (["runtime.precision=tf23"], "Did you mean 'tf32'"),
        (["runtime.compile=true", "runtime.checkpointing=true"], "leave out runtime.checkpointing"),
    ],
)
def test_keys_of_the_engine_are_checked(overrides: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        config.check(compose_run(overrides).cfg)

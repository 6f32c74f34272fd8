"""Composition: search path, recipes, multirun expansion, and one clear sentence for every refusal."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dehaze_bench import config, registry
from dehaze_bench.compose import compose_run, expand
from dehaze_bench.errors import UsageError


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=mmaba"], ["'mmaba'", "mma", "dehaze-bench ls model"]),
        (["model=mamba"], ["'mamba'", "a choice of model/mixer"]),
        (["model=null"], ["model", "unet", "dehaze-bench ls model"]),
        (["model="], ["model", "dehaze-bench ls model"]),
        (["model=[unet]"], ["'unet'"]),
        (["scan=../cross"], ["'../cross'", "'cross'"]),
        (["scan=cross.yaml"], ["'cross.yaml'", "'cross'"]),
        (["model/mixer=mambaa"], ["model/mixer", "'mamba'"]),
        (["model/mixers=conv"], ["'model/mixers'", "'model/mixer'"]),
        (["model=aodnet", "model/mixer=conv"], ["'model/mixer'", "no place"]),
        (["scan=hilber"], ["'hilber'", "'hilbert'"]),
        (["dataset=itss"], ["'its'"]),
        (["sed=3"], ["'sed'", "'seed'"]),
        (["lr=1"], ["'optimizer.lr'"]),
        (["steps=9"], ["'train.steps'"]),
        (["mixer=conv"], ["'model/mixer'"]),
        (["train.step=5"], ["train.step", "'steps'"]),
        (["train.steps=abc"], ["train.steps=abc", "whole number"]),
        (["train.steps=1.5"], ["train.steps=1.5", "whole number"]),
        (["train.clip=x"], ["train.clip=x", "number or null"]),
        (["train.augment=flip"], ["train.augment=flip", "list"]),
        (["seed="], ["seed", "whole number"]),
        (["seed=null"], ["seed=null", "whole number"]),
        (["train=3"], ["train=3", "parts"]),
        (["optimizer.lrr=1"], ["optimizer.lrr", "'lr'"]),
        (["optimizer.eps=1"], ["+optimizer.eps"]),
        (["model.mixer.kernell=3"], ["model.mixer.kernell", "d_state"]),
        (["model/mixer=conv", "model.mixer.kernell=3"], ["'kernel'"]),
        (["model.match.foo=1"], ["model.match.foo", "params"]),
        (["model=aodnet", "model.match.params=1k"], ["model.match"]),
        (["+foo.bar=1"], ["foo"]),
        (["experiment=x"], ["experiment"]),
        (["recipe=dehazeformer"], ["'dehazeformer_its'"]),
        (["seed=1,2"], ["seed=1,2", "train -m"]),
        (["scan=raster,cross"], ["scan=raster,cross", "train -m"]),
        (["=3"], ["'=3'", "key=value"]),
        (["scan='cross"], ["scan='cross", "quote"]),
        (["a b=c"], ["a b=c", "key=value"]),
        (["~nope"], ["~nope"]),
        (["~train.steps"], ["~train.steps"]),
        (["train.steps=${nowhere}"], ["nowhere"]),
        (["train.steps=${oc.env:NO_SUCH_VARIABLE}"], ["NO_SUCH_VARIABLE"]),
    ],
)
def test_bad_overrides_give_one_sentence(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        config.check_keys(compose_run(overrides).cfg)
    for word in words:
        assert word in str(caught.value), caught.value
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400, caught.value


def test_compose_is_repeatable_and_keeps_choices() -> None:
    first, second = compose_run(["scan=cross", "seed=3"]), compose_run(["scan=cross", "seed=3"])
    assert first.cfg == second.cfg
    assert first.choices["scan"] == "cross"
    assert first.choices["model/mixer"] == "mamba"
    assert "hydra" not in first.cfg
    assert not [key for key in first.choices if key.startswith("hydra")]


def test_expand_makes_one_job_per_combination() -> None:
    jobs = expand(["scan=raster,cross", "seed=0,1", "train.steps=5", "train.augment=[flip,rot90]"])
    assert len(jobs) == 4
    assert all("train.steps=5" in job and "train.augment=[flip,rot90]" in job for job in jobs)
    assert {(job[0], job[1]) for job in jobs} == {
        (scan, seed) for scan in ("scan=raster", "scan=cross") for seed in ("seed=0", "seed=1")
    }


def test_a_recipe_sets_values_and_yields_to_overrides() -> None:
    cfg = compose_run(["recipe=dehazeformer_its", "dataset=its", "optimizer.lr=1e-4"]).cfg
    config.check(cfg)
    assert (cfg.train.batch, cfg.train.crop, cfg.train.select) == (32, 256, "best@test")
    assert list(cfg.train.augment) == ["flip", "rot90"]
    assert cfg.train.clip is None
    assert cfg.train.steps == 300 * 13990 // 32
    assert cfg.runtime.precision == "fp16"
    assert cfg.optimizer._target_ == "torch.optim.AdamW"
    assert cfg.optimizer.lr == 1e-4
    assert cfg.schedule.floor == 0.01
    assert cfg.protocol.name == "dehazeformer"
    own = compose_run(["recipe=dehazeformer_its", "dataset=deadleaves", "testset=photos"])
    assert own.choices["dataset"] == "deadleaves"
    assert own.cfg.optimizer.lr == 4e-4


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with its own `conf`."""
    (tmp_path / "conf" / "scan").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_scan(path: Path, name: str, routes: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"# ours\n_target_: dehaze_bench.scans.Scan\nname: {name}\norder:\n"
        f"  _target_: dehaze_bench.scans.planar.random\n  _partial_: true\n  routes: {routes}\nmerge: mean\n",
        encoding="utf-8",
    )


def test_a_users_conf_comes_first(own: Path) -> None:
    write_scan(own / "conf/scan/mine.yaml", "mine", 3)
    write_scan(own / "conf/scan/cross.yaml", "cross_of_ours", 5)
    assert compose_run(["scan=mine"]).cfg.scan.order.routes == 3
    assert compose_run(["scan=cross"]).cfg.scan.name == "cross_of_ours"
    assert compose_run(["scan=raster"]).cfg.scan.name == "raster", "packaged choices stay"
    assert registry.list_choices("scan")["cross"] == "ours"
    assert "mine" in registry.list_choices("scan")
    with pytest.raises(UsageError, match="mine"):
        compose_run(["scan=min"])


def test_a_users_conf_may_add_a_group(own: Path) -> None:
    (own / "conf/lab").mkdir()
    (own / "conf/lab/bright.yaml").write_text("# @package _global_\n# more light\nseed: 7\n", encoding="utf-8")
    assert "lab" in registry.list_groups()
    assert registry.list_choices("lab") == {"bright": "more light"}
    assert compose_run(["+lab=bright"]).cfg.seed == 7


def test_identity_does_not_depend_on_the_working_folder(own: Path) -> None:
    here = compose_run(["scan=raster"])
    shutil.rmtree(own / "conf")
    there = compose_run(["scan=raster"])
    assert config.scientific(here.cfg) == config.scientific(there.cfg)


def test_conf_inside_the_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout of a wheel: the trees lie inside the package and nothing lies beside it."""
    package = tmp_path / "site-packages" / "dehaze_bench"
    for name in ("conf", "experiments"):
        shutil.copytree(registry.PACKAGE.parent / name, package / name)
    monkeypatch.setattr(registry, "PACKAGE", package)
    monkeypatch.chdir(tmp_path)
    assert registry.conf_dirs() == [package / "conf"]
    assert registry.experiment_dirs() == [package / "experiments"]
    assert compose_run(["scan=cross"]).cfg.scan.name == "cross"
    packaged = sorted(path.stem for path in (package / "conf" / "scan").glob("*.yaml"))
    assert list(registry.list_choices("scan")) == packaged
    assert {"cross", "hilbert", "native"} <= set(packaged)


def test_every_packaged_file_is_described() -> None:
    for group in registry.list_groups():
        for name, text in registry.list_choices(group).items():
            assert text, f"{group}/{name} begins without a description"
            assert not text.startswith("@"), f"{group}/{name}"

"""DehazeFormer and what shares its skeleton: parameters to the unit, presets, recipes as they were published."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from dehaze_bench import config
from dehaze_bench.compose import compose_run
from dehaze_bench.registry import list_choices
from dehaze_bench.verify.families import dehazeformer, edformer, gunet, mixdehazenet
from tests.models.backbones.building import count
from tests.models.restorers.building import CONF, restorer

PARAMETERS = {
    "dehazeformer_t": 687_404,
    "dehazeformer_s": 1_284_884,
    "dehazeformer_b": 2_517_612,
    "dehazeformer_m": 4_635_952,
    "dehazeformer_d": 4_983_068,
    "dehazeformer_w": 9_686_724,
    "dehazeformer_l": 25_451_652,
    "gunet_t": 844_899,
    "gunet_s": 1_477_059,
    "gunet_b": 2_741_379,
    "gunet_d": 5_270_019,
    "mixdehazenet_t": 1_622_950,
    "mixdehazenet_s": 3_164_944,
    "mixdehazenet_b": 6_248_932,
    "mixdehazenet_l": 12_416_908,
    "edformer": 865_868,
}
SIZES = {**dehazeformer.SIZES, **gunet.SIZES, **mixdehazenet.SIZES, "edformer": edformer.SIZE}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert count(restorer(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_verify_builds_what_the_preset_builds(name: str) -> None:
    preset = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    assert isinstance(preset, dict)
    assert preset == {"_target_": preset["_target_"], **SIZES[name]}


def test_every_published_size_has_a_preset() -> None:
    assert set(SIZES) == set(PARAMETERS)


RECIPES = [name for name in list_choices("recipe") if name.rsplit("_its", 1)[0] != "dehazeformer"]
RECIPES = [name for name in RECIPES if name.startswith(("dehazeformer_", "gunet_", "mixdehazenet_", "edformer_"))]
IMAGES = {"its": 13_990, "ots": 72_135, "reside_6k": 6_000, "rshaze": 51_300, "haze4k": 3_000}
IMAGES |= {"nh_haze": 50, "dense_haze": 50}
EPOCHS = {
    "dehazeformer": {"its": 300, "ots": 30, "reside_6k": 1000, "rshaze": 150},
    "edformer": {"its": 300, "ots": 30, "rshaze": 150},
    "mixdehazenet_t": {"its": 400, "ots": 30, "haze4k": 1000},
    "mixdehazenet_s": {"its": 500, "ots": 50, "haze4k": 1000, "reside_6k": 1000, "nh_haze": 5000, "dense_haze": 5000},
    "mixdehazenet_b": {"its": 500, "ots": 40, "haze4k": 1000},
    "mixdehazenet_l": {"its": 480, "ots": 40, "haze4k": 1500, "dense_haze": 5000},
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_its_model_as_long_as_published(name: str) -> None:
    composed = compose_run([f"recipe={name}"])
    cfg, model, data = composed.cfg, composed.choices["model"], composed.choices["dataset"]
    config.check(cfg)
    assert name == f"{model}_{data}"
    assert composed.choices["testset"] == {"its": "sots_indoor", "ots": "sots_outdoor"}.get(data, data)
    assert cfg.protocol.name == "dehazeformer" and cfg.train.select == "best@test" and cfg.schedule.floor == 0.01
    if model.startswith("gunet"):
        assert cfg.train.steps * cfg.train.batch == 1000 * 16_384
        assert cfg.schedule.warmup == 50 * 16_384 / cfg.train.batch
        assert cfg.optimizer.lr == pytest.approx(1.6e-3 * cfg.train.batch / 128)
    else:
        epochs = EPOCHS[model if model.startswith("mixdehazenet") else model.split("_")[0]][data]
        assert cfg.train.steps == epochs * IMAGES[data] // cfg.train.batch

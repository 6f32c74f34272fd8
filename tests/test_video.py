"""Video from end to end: train on clips, evaluate frame by frame, with a temporal error; test sets without truth."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from dehaze_bench import build, cli, run, source, sweep
from dehaze_bench.compose import compose_run
from dehaze_bench.counting import count_params
from dehaze_bench.errors import UsageError
from dehaze_bench.registry import experiment_dirs
from dehaze_bench.results.experiment import Experiment, find_experiment
from dehaze_bench.results.record import read_per_image, read_record
from tests import tiny

CLIPS = (
    "dataset=deadleaves_clips", "dataset.frames=3", "dataset.canvas=[64,64]", "dataset.speed=2",
    "testset=photos_clips", "testset.frames=3", "testset.window=[24,32]", "track=off",
)  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEHAZE_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "photos"))


def overrides(folder: Path, model: str, scan: str, *more: str) -> list[str]:
    network = ["model/mixer=conv", "model.width=4", "model.depths=[1,0,1,0,0]", "model.patch=4"]
    return [f"model={model}", f"scan={scan}", *network, *CLIPS, *tiny.TRAINING, f"paths.runs={folder}/runs", *more]


@pytest.mark.parametrize(("model", "scan"), [("unet_video", "spatiotemporal"), ("unet", "raster")])
def test_networks_for_clips_and_for_pictures_learn_and_are_measured_alike(
    tmp_path: Path, model: str, scan: str
) -> None:
    outcome = run.train(compose_run(overrides(tmp_path, model, scan)))
    record = read_record(outcome.path / "result.json")
    rows = read_per_image(outcome.path / "per_image.csv")
    assert record.evaluation.n == len(rows) == 14 * 3
    assert [row.name for row in rows[:3]] == [f"astronaut_1/0{t}" for t in range(3)]
    assert list(rows[0].values) == ["psnr", "ssim", "ciede2000"]

    clips = read_per_image(outcome.path / "per_clip.csv")
    assert len(clips) == 14 and clips[0].name == "astronaut_1"
    assert clips[0].values["psnr"] == pytest.approx(sum(row.values["psnr"] for row in rows[:3]) / 3)
    temporal = record.evaluation.metrics["temporal"]
    assert not temporal.higher and temporal.mean > 0
    assert temporal.mean == pytest.approx(sum(clip.values["temporal"] for clip in clips) / 14)
    pictures = outcome.path / "images/photos_clips"
    assert (pictures / "astronaut_1/00.png").is_file() and (pictures / "clear/astronaut_1/00.png").is_file()
    assert run.train(compose_run(overrides(tmp_path, model, scan))).skipped

    again = source.compose_for([f"paths.runs={tmp_path}/runs", "track=off"], record.id)
    assert run.evaluate(again, record.id).record.evaluation.metrics == record.evaluation.metrics


def test_scenes_are_held_out_as_clips(tmp_path: Path) -> None:
    more = ["train.select=best@val", "train.val_images=2", "train.eval_every=3"]
    outcome = run.train(compose_run(overrides(tmp_path, "unet_video", "hilbert_3d", *more)))
    lines = [json.loads(line) for line in (outcome.path / "metrics.jsonl").read_text().splitlines()]
    seen = [line for line in lines if "val/psnr" in line]
    assert [line["step"] for line in seen] == [3, 6] and all(line["val/temporal"] > 0 for line in seen)


def test_the_hazy_input_has_a_temporal_error_too(tmp_path: Path) -> None:
    outcome = run.train(compose_run(["model=identity", *CLIPS, f"paths.runs={tmp_path}/runs"]))
    assert outcome.record.evaluation.metrics["temporal"].mean > 0


class TestWithoutTruth:
    def overrides(self, folder: Path, *more: str) -> list[str]:
        if not (folder / "HSTS").exists():
            tiny.write_pairs(folder / "real", count=3)
            (folder / "HSTS").mkdir()
            (folder / "real/hazy").rename(folder / "HSTS/real-world")
        places = [f"paths.runs={folder}/runs", f"paths.data={folder}"]
        return ["testset=hsts_real", "dataset.canvas=[64,64]", "track=off", *places, *more]

    def test_pictures_and_names_are_written_and_nothing_is_measured(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.run(["train", *self.overrides(tmp_path, "model=identity")]) == 0
        assert "no clear pictures to compare with: see images/" in capsys.readouterr().out
        [folder] = (tmp_path / "runs").iterdir()
        record = read_record(folder / "result.json")
        assert record.evaluation.metrics == {} and record.evaluation.n == 3
        assert "without truth" in record.evaluation.protocol_note
        assert list(csv.reader((folder / "per_image.csv").open())) == [["name"], ["0"], ["1"], ["2"]]
        assert sorted(path.name for path in (folder / "images/hsts_real").glob("*.png")) == ["0.png", "1.png", "2.png"]
        assert not (folder / "images/hsts_real/clear").exists()

    def test_a_trained_network_is_shown_on_them(self, tmp_path: Path) -> None:
        outcome = run.train(compose_run(self.overrides(tmp_path, *tiny.NETWORK, *tiny.TRAINING, "train.eval_every=3")))
        assert outcome.record.evaluation.metrics == {} and outcome.record.train is not None

    def test_no_checkpoint_can_be_chosen_by_them(self, tmp_path: Path) -> None:
        more = [*tiny.NETWORK, *tiny.TRAINING, "train.select=best@test", "train.eval_every=3"]
        with pytest.raises(UsageError, match=r"best@test: hsts_real has no truth to select by"):
            run.train(compose_run(self.overrides(tmp_path, *more)))

    def test_the_other_sets_of_real_pictures_are_read(self, tmp_path: Path) -> None:
        self.overrides(tmp_path)
        for name, folder in (("rtts", "RTTS/JPEGImages"), ("urhi", "UnannotatedHazyImages")):
            (tmp_path / folder).parent.mkdir(exist_ok=True)
            (tmp_path / folder).symlink_to(tmp_path / "HSTS/real-world")
            words = self.overrides(tmp_path, "model=identity", f"testset={name}")
            assert run.train(compose_run(words)).record.evaluation.n == 3


def test_the_rows_of_the_demonstration_are_sound_and_of_one_size() -> None:
    experiment = Experiment.load(find_experiment("video_demo", experiment_dirs()))
    sweep.check_columns(sweep.plan("video_demo", []))
    sizes = set()
    for job in experiment.jobs():
        cfg = compose_run(job.overrides).cfg
        build.check(cfg)
        sizes.add(count_params(build.meta_model(cfg)))
    assert len(sizes - {0}) == 1

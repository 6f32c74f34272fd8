from __future__ import annotations

import io
import json
import logging
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import dehaze_bench.track
from dehaze_bench.errors import UsageError
from dehaze_bench.results.experiment import load_yaml
from dehaze_bench.track.console import ConsoleSink, clock_time, describe
from dehaze_bench.track.jsonl import JsonlSink
from dehaze_bench.track.pictures import choose, error_map
from dehaze_bench.track.sink import EvaluationView, RunInfo, make_sinks

CONF = Path(__file__).resolve().parents[2] / "conf" / "track"


def run(tmp_path: Path, steps: int | None = 40, resumed: int = 0) -> RunInfo:
    return RunInfo("5b2c44cd", "unet", tmp_path, steps, resumed)


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]


def test_jsonl_writes_each_record_at_once(tmp_path: Path) -> None:
    sink = JsonlSink()
    sink.start(run(tmp_path))
    sink.log(10, {"loss": 0.5, "lr": 1e-3})
    assert lines(tmp_path) == [{"step": 10, "loss": 0.5, "lr": 1e-3}]
    sink.evaluation(EvaluationView("val", 10, {"psnr": math.inf}))
    assert lines(tmp_path)[1] == {"step": 10, "val/psnr": "inf"}
    sink.finish({})
    sink.log(20, {"loss": 0.4})
    assert len(lines(tmp_path)) == 2


@pytest.mark.parametrize(("resumed", "left"), [(0, []), (20, [10, 20]), (25, [10, 20]), (40, [10, 20, 30])])
def test_jsonl_resumes_where_the_state_was_saved(tmp_path: Path, resumed: int, left: list[int]) -> None:
    text = "".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (10, 20, 30))
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 40, "lo')
    sink = JsonlSink()
    sink.start(run(tmp_path, resumed=resumed))
    assert [line["step"] for line in lines(tmp_path)] == left
    sink.log(50, {"loss": 0.5})
    assert [line["step"] for line in lines(tmp_path)] == [*left, 50]


def test_jsonl_keeps_what_a_disk_refuses_until_it_takes_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink = JsonlSink()
    sink.start(run(tmp_path))
    (tmp_path / "metrics.jsonl").mkdir()
    with caplog.at_level(logging.WARNING):
        sink.log(1, {"loss": 0.5})
        sink.log(2, {"loss": 0.5})
        assert caplog.text.count("cannot be written at step 1") == 1 and "at step 2" not in caplog.text
        (tmp_path / "metrics.jsonl").rmdir()
        sink.log(3, {"loss": 0.5})
        assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
        (tmp_path / "metrics.jsonl").unlink()
        (tmp_path / "metrics.jsonl").mkdir()
        sink.log(4, {"loss": 0.5})
        sink.finish({})
    assert "1 records could not be written" in caplog.text


def test_jsonl_has_an_evaluation_once_that_a_kill_came_right_after(tmp_path: Path) -> None:
    view = EvaluationView("pairs", 20, {"psnr": 17.3})
    for _ in range(2):
        sink = JsonlSink()
        sink.start(run(tmp_path, resumed=20))
        sink.evaluation(view)
    assert lines(tmp_path) == [{"step": 20, "pairs/psnr": 17.3}]
    sink.evaluation(view)
    assert len(lines(tmp_path)) == 2, "only what a resume does again is left out"


def test_console_prints_plain_lines_without_a_terminal(tmp_path: Path) -> None:
    times = iter([0.0, 5.0, 100.0])
    out = io.StringIO()
    sink = ConsoleSink(Console(file=out, width=40), clock=lambda: next(times))
    sink.start(run(tmp_path, steps=40, resumed=10))
    values = {"data_wait": 0.031, "loss": 0.05123, "lr": 2e-4, "images_per_second": 31.24, "extra": 3.0}
    sink.log(20, values)
    rows = [("a", {"psnr": 1.0}), ("b", {"psnr": 2.0})]
    sink.evaluation(EvaluationView("photos", 40, {"psnr": 17.346}, rows))
    sink.finish({})
    assert out.getvalue().splitlines() == [
        "unet-5b2c44cd resumes after step 10, 40 steps",
        "step 20/40  loss 0.0512  lr 2.0e-04  31.2 images/s  wait 3%  extra 3  ETA 0:10",
        "step 40/40  photos (2 images): psnr 17.35",
        "unet-5b2c44cd is done after 1:40",
    ]


def test_console_draws_a_bar_on_a_terminal_and_removes_it(tmp_path: Path) -> None:
    out = io.StringIO()
    sink = ConsoleSink(Console(file=out, force_terminal=True, width=100))
    sink.start(run(tmp_path))
    sink.log(20, {"loss": 0.25})
    sink.finish({"error": "x"})
    assert "━" in out.getvalue()
    assert "unet-5b2c44cd failed after" in out.getvalue()
    sink.finish({})  # a second end is harmless


def test_console_of_an_evaluation_only_run(tmp_path: Path) -> None:
    out = io.StringIO()
    sink = ConsoleSink(Console(file=out, width=80))
    sink.start(run(tmp_path, steps=None))
    sink.log(0, {"loss": 1.0})
    assert "step 0  loss 1.0000\n" in out.getvalue()
    assert "ETA" not in out.getvalue()


def test_short_texts() -> None:
    assert describe({"val/psnr": 20.123456, "loss": 1.0}) == ["loss 1.0000", "val/psnr 20.12"]
    assert [clock_time(seconds) for seconds in (0, 61, 3661)] == ["0:00", "1:01", "1:01:01"]


@given(
    st.lists(st.floats(allow_nan=True), max_size=30),
    st.booleans(),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_chosen_pictures_are_distinct_and_contain_the_extremes(
    values: list[float], higher: bool, fixed: int, extreme: int
) -> None:
    chosen = choose(values, higher, fixed, extreme)
    assert len(set(chosen)) == len(chosen) <= fixed + 2 * extreme
    assert set(chosen) <= set(range(len(values)))
    finite = [value for value in values if not math.isnan(value)]
    if extreme and finite:
        best = max(finite) if higher else min(finite)
        assert any(values[index] == best for index in chosen)
    if extreme and len(finite) == len(values) > 0:
        worst = min(values) if higher else max(values)
        assert any(values[index] == worst for index in chosen)


def test_fixed_sample_depends_on_the_number_of_images_only() -> None:
    assert choose([5.0, 1.0, 3.0, 2.0, 4.0], True, fixed=3, extreme=0) == [0, 2, 4]
    assert choose([1.0, 5.0, 3.0, 2.0, 4.0], False, fixed=3, extreme=0) == [0, 2, 4]
    assert choose([3.0, 1.0, 2.0], True, fixed=1, extreme=1) == [0, 1]


def test_error_map_runs_from_black_to_white() -> None:
    truth = np.zeros((1, 4, 3), np.uint8)
    restored = truth.copy()
    restored[0, 1:] = np.array([21, 43, 200])[:, None]
    picture = error_map(restored, truth)
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[0, 1].tolist() == [251, 0, 0]
    assert picture[0, 2].tolist() == [255, 255, 4]
    assert picture[0, 3].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(error_map(truth, restored), picture)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("local", ["JsonlSink", "ConsoleSink"]),
        ("wandb", ["JsonlSink", "ConsoleSink", "WandbSink"]),
        ("off", ["JsonlSink"]),
    ],
)
def test_shipped_configurations_make_their_sinks(name: str, kinds: list[str]) -> None:
    path = CONF / f"{name}.yaml"
    assert path.read_text().startswith("# ")
    config = load_yaml(path)
    assert isinstance(config, dict)
    assert config.pop("_target_") == "dehaze_bench.track.sink.make_sinks"
    assert [type(sink).__name__ for sink in make_sinks(**config)] == kinds


def test_unknown_mode_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown track.mode 'on-line'\. Did you mean 'online'"):
        make_sinks(mode="on-line")  # type: ignore[arg-type]


def test_wandb_and_torch_are_not_imported_before_they_are_needed() -> None:
    modules = sorted(path.stem for path in Path(dehaze_bench.track.__path__[0]).glob("[a-z]*.py"))
    code = "import sys\n" + "".join(f"import dehaze_bench.track.{name}\n" for name in modules)
    code += "print(sorted({'torch', 'hydra', 'wandb'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Profiles: growth, rows, tables, measuring, experiments of costs, and the verb."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dehaze_bench import build, cli, profile
from dehaze_bench.compose import compose_run
from dehaze_bench.errors import UsageError
from dehaze_bench.profiling import growth, measure, picture, rows, table, worker
from dehaze_bench.profiling.measure import Measured, Settings
from dehaze_bench.profiling.rows import Row
from dehaze_bench.registry import experiment_dirs
from dehaze_bench.results.costs import CostExperiment
from dehaze_bench.results.experiment import find_experiment

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the resident set is read from /proc")
SMALL = ("model.backbone.depth=1",)
ROWS = [
    Row("A", "a", 64, 1, False, "cpu", 7_148_008, 1.8e9, 1.482e9, "vim", (0.3, 0.1, 0.2), memory=10**6),
    Row("A", "a", 128, params=7_148_008, macs=7.2e9, seconds=(0.8,), memory=4 * 10**6),
    Row("B", "b", 64, batch=2, params=22_893_448, error="out of memory", published={"params": 22e6, "top1": 82.5}),
    Row("C", size=300, published={"params": 12e6, "macs": 1.8e9, "top1": 81.6}, source="a paper (read)"),
]  # fmt: skip


class Hungry(nn.Module):
    """Holds `megabytes` while it runs, and has one parameter of as much."""

    def __init__(self, megabytes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(megabytes * 2**18))

    def forward(self, image: Tensor) -> Tensor:
        held = self.weight + 1
        return image.mean() * held.mean()


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(power: float) -> None:
    sides = [128, 256, 512]
    found = growth.fit(sides, [3.0 * (side * side) ** power for side in sides])
    assert found is not None
    assert found.exponent == pytest.approx(power)
    assert found.last == pytest.approx(power)
    assert (found.low, found.high, found.num) == (128, 512, 3)


def test_a_fixed_cost_flattens_the_fit_more_than_its_end() -> None:
    found = growth.fit([256, 64, 128], [1.0 + (side / 64) ** 4 for side in (256, 64, 128)])
    assert found is not None
    assert found.exponent < found.last < 2
    assert found.last == pytest.approx(math.log(257 / 17) / math.log(4))
    assert str(found) == f"{found.exponent:.2f} (last two sizes {found.last:.2f})"


def test_growth_needs_two_sizes_with_a_value() -> None:
    assert growth.fit([128, 128], [1.0, 2.0]) is None
    assert growth.fit([128, 256], [1.0, None]) is None
    assert growth.fit([], []) is None


def test_a_row_knows_median_quartiles_and_rate() -> None:
    row = Row("A", "a", 64, batch=4, seconds=(0.5, 0.1, 0.2, 0.3, 0.4))
    assert (row.latency, row.spread) == (0.3, (0.2, 0.4))
    assert row.throughput == pytest.approx(4 / 0.3)
    assert row.log10_throughput == pytest.approx(math.log10(4 / 0.3))
    assert Row("A").latency is Row("A").throughput is Row("A").spread is None


@pytest.mark.parametrize(
    ("ours", "theirs", "column", "expected"),
    [
        (7_148_008, 7e6, "params", False),
        (22_893_448, 22e6, "params", True),  # the survey's row of VMamba-T
        (93_645_544, 93.7e6, "params", True),
        (23_820_136, 23.8e6, "params", False),
        (18.02e9, 18e9, "macs_paper", False),
        (17.583e9, 17.5e9, "macs_paper", True),
        (1.8e9, 1.5e9, "macs", False),  # our rule is not theirs
    ],
)
def test_counts_are_compared_at_the_digits_that_were_printed(
    ours: float, theirs: float, column: str, expected: bool
) -> None:
    name = "params" if column == "params" else "macs"
    assert Row("A", **{column: ours}, published={name: theirs}).differs(column) is expected


def test_the_table_puts_published_numbers_beside_ours() -> None:
    head, cells = table.grid(ROWS, ("params", "macs", "macs_paper", "latency", "memory", "top1"))
    assert head == [
        *("", "size", "batch", "params", "published params", "MACs, ours", "MACs, paper's rule", "published MACs"),
        *("latency [ms]", "memory", "published top-1"),
    ]
    assert cells[0] == [
        *("A", "64", "1", "7.15 M", "–", "1.80 G", "1.48 G (vim)", "–", "200 (150–250)", "1.00 MB", "–")
    ]
    assert cells[2][:5] == ["B (1)", "64", "2", "22.9 M", "22 M ≠"]
    assert cells[3] == ["C (2)", "300", "–", "–", "12 M", "–", "–", "1.8 G", "–", "–", "81.6"]
    assert table.remarks(ROWS) == ["out of memory", "published: a paper (read)"]
    text = table.to_markdown("A title", ROWS, ("params", "memory"), table.footer(ROWS))
    assert "### A title" in text and "1. out of memory" in text
    assert "A: pixels to the power of, 2 sizes, 64 to 128 pixels a side: MACs 1.00, latency 1.00, memory 1.00." in text


def test_the_csv_holds_everything() -> None:
    lines = list(csv.DictReader(io.StringIO(rows.to_csv(ROWS))))
    assert len(lines) == len(ROWS)
    assert lines[0]["mode"] == "inference" and float(lines[0]["latency"]) == 0.2 and lines[0]["rule"] == "vim"
    assert (lines[2]["differs"], lines[2]["error"], lines[2]["published_top1"]) == ("params", "out of memory", "82.5")
    assert (lines[3]["mode"], lines[3]["params"], lines[3]["published_macs"]) == ("", "", "1800000000.0")


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    more = [Row("A", "a", size, training=True, seconds=(size / 100,), memory=size) for size in (64, 128)]
    shown = Row("D", "d", 64, seconds=(0.1,), memory=10, published={"log10_throughput": 1.5, "memory": 2e6})
    picture.draw([*ROWS, *more, shown], "Costs", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@LINUX
@pytest.mark.parametrize("training", [False, True])
def test_memory_is_what_a_run_holds_and_leaves_behind(training: bool) -> None:
    held = 32 * 2**20
    found = measure.measure(Hungry(32), Settings(8, training=training, repeats=4))
    assert len(found.seconds) == 4 and min(found.seconds) > 0
    assert found.memory is not None
    # A run holds one copy. A step leaves the gradient and two moments and needs some more while it works.
    low, high = (3.9, 8) if training else (0.9, 1.6)
    assert low * held < found.memory < high * held


def test_repeats_stop_when_their_time_is_over() -> None:
    found = measure.measure(Hungry(1), Settings(8, repeats=1000, seconds=0.0))
    assert len(found.seconds) == measure.LEAST_REPEATS


def blueprint(*overrides: str) -> dict[str, object]:
    return build.blueprint(compose_run(["model=pyramid", "model/backbone=vrwkv_t", *SMALL, *overrides]).cfg, True)


def test_a_fresh_process_answers() -> None:
    found = worker.ask(blueprint("scan=hilbert"), "cpu", Settings(32, repeats=3), limit=120)
    assert len(found.seconds) == 3


def test_a_measurement_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(code: int, out: str, err: str) -> None:
        done = subprocess.CompletedProcess([], code, out, err)
        monkeypatch.setattr(worker.subprocess, "run", lambda *_, **__: done)

    for code, out, err, words in (
        (-9, "", "", "killed by the system"),
        (1, "", "Traceback\nTypingError: no such thing", "TypingError: no such thing"),
        (3, "", "", "code 3"),
        (0, 'a library speaks\n{"error": "out of memory"}\n', "", "out of memory"),
    ):
        ended(code, out, err)
        with pytest.raises(worker.Failure, match=words):
            worker.ask({}, "cpu", Settings(8), limit=1)

    def late(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired([], 1)

    monkeypatch.setattr(worker.subprocess, "run", late)
    with pytest.raises(worker.Failure, match="took more than 1 s"):
        worker.ask({}, "cpu", Settings(8), limit=1)


def test_what_a_process_answers_to_a_bad_request() -> None:
    request = {"blueprint": blueprint(), "device": "cpu", "settings": {"size": 40, "repeats": 3}}
    assert "40x40" in worker._answer(request)["error"]
    assert worker.describe(RuntimeError("CUDA out of memory. Tried to allocate\nmore")) == "out of memory"
    assert worker.describe(MemoryError()) == "out of memory"


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Measure in this process, where it takes no start, and write under a folder of its own."""

    def ask(plan: dict[str, object], device: str, settings: Settings, limit: float) -> Measured:
        answer = worker._answer({"blueprint": plan, "device": device, "settings": vars(settings)})
        if "error" in answer:
            raise worker.Failure(answer["error"])
        return Measured(**answer)

    monkeypatch.setattr(profile, "ask", ask)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_verb_writes_table_data_and_plot(in_process: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    line = ["model=deit_ti,vrwkv_t", "size=32,40,64", "repeats=3", "train=true", "batch=2", *SMALL, "out=here"]
    assert cli.run(["profile", *line]) == 1  # 40 is no multiple of a patch
    out = capsys.readouterr()
    assert "[12/12] vrwkv_t at 64, training" in out.err
    assert "vrwkv_t, training: pixels to the power of, 2 sizes" in out.out.replace("\n", " ")
    found = json.loads((in_process / "here" / "profile.json").read_text())
    done = [row for row in found["rows"] if not row["error"]]
    assert len(found["rows"]) == 12 and len(done) == 8
    assert all(row["batch"] == 2 and len(row["seconds"]) == 3 and row["params"] > 1e5 for row in done)
    assert {row["rule"] for row in done} == {"fvcore", "vrwkv"}
    assert all("40x40" in row["error"] for row in found["rows"] if row["error"])
    assert {(line["label"], line["training"]) for line in found["growth"]} == {
        (name, training) for name in ("deit_ti", "vrwkv_t") for training in (False, True)
    }
    assert {path.name for path in (in_process / "here").iterdir()} == {
        f"profile.{suffix}" for suffix in ("md", "csv", "json", "png")
    }


def test_restorers_and_priors_are_profiled_too(in_process: Path) -> None:
    assert cli.run(["profile", "model=identity", "size=16", "repeats=3"]) == 0
    assert cli.run(["profile", "model=identity", "size=16", "repeats=3", "train=true", "out=trained"]) == 1
    found = json.loads((in_process / "tables" / "profile" / "profile.json").read_text())["rows"]
    assert [(row["params"], row["macs"]) for row in found] == [(0, None)]
    trained = json.loads((in_process / "trained" / "profile.json").read_text())["rows"]
    assert [row["error"] for row in trained] == ["", "has nothing to train"]


def test_an_experiment_of_costs(in_process: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_process / "experiments").mkdir()
    (in_process / "experiments" / "published.yaml").write_text(
        "dataset: imagenet_1k\nrows:\n"
        "  - {label: A, size: 64, params: 1e6, macs: 1e9, top1: 70, protocol: p, source: s, provenance: read}\n"
        "  - {label: Z, size: 99, params: 9e6, protocol: p, source: s, provenance: read}\n"
    )
    (in_process / "experiments" / "mine.yaml").write_text(
        "kind: profile\nname: mine\ntitle: My costs\nsizes: [64]\ncolumns: [params, macs, macs_paper, top1]\n"
        "references: [published.yaml]\nrows:\n"
        "  - {label: Ours, model: deit_ti, overrides: [model.backbone.depth=1], published: A, note: small}\n"
        "  - {label: Larger, model: deit_ti, overrides: [model.backbone.depth=1], sizes: [128]}\n"
    )
    assert cli.run(["ls", "experiments"]) == 0
    assert re.search(r"^mine +My costs$", capsys.readouterr().out, flags=re.MULTILINE)
    assert cli.run(["check", "mine"]) == 0
    assert capsys.readouterr().out == "mine: 2 networks, all sound\n"
    assert cli.run(["profile", "mine"]) == 0
    lines = list(csv.DictReader(io.StringIO((in_process / "tables" / "mine" / "profile.csv").read_text())))
    assert [(line["label"], line["size"], line["latency"]) for line in lines] == [
        ("Ours", "64", ""), ("Larger", "128", ""), ("Z", "99", "")
    ]  # fmt: skip
    assert (lines[0]["differs"], lines[0]["published_top1"], lines[0]["note"]) == ("macs_paper", "70.0", "small")
    assert cli.run(["sweep", "mine"]) == cli.run(["table", "mine"]) == 2
    assert "dehaze-bench profile" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "profile needs networks"),
        ("model=vim_tt", "Unknown model 'vim_tt'. Did you mean 'vim_t'"),
        ("model=deit_ti size=0", "size=0"),
        ("model=deit_ti size=big", "size=big"),
        ("model=deit_ti rule=fvcor", "Did you mean 'fvcore'"),
        ("model=deit_ti train=maybe", "train=maybe"),
        ("model=deit_ti batch=-1", "batch=-1"),
        ("model=deit_ti device=tpu9", "tpu9"),
        ("model=deit_ti scan=hilbert", "takes no scan"),
        ("model=deit_ti model.backbone.depht=1", "row 'deit_ti'"),
        ("model=deit_ti --fast", "--fast"),
        ("demo", "dehaze-bench sweep"),
        ("nothing_here", "no experiment 'nothing_here'"),
        ("vim_cost_curve model=deit_ti", "not both"),
    ],
)
def test_requests_that_cannot_be_right(
    line: str, words: str, in_process: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["profile", *line.split()]) == 2
    assert words in capsys.readouterr().err
    assert not list(in_process.iterdir())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("kind: profile\n", "", "not a profile"),
        ("sizes: [64]\n", "", "sizes"),
        ("sizes: [64]\n", "sizes: [0]\n", "pixels from 1 up"),
        ("sizes: [64]\n", "sizes: [64]\nbatch: 0\n", "batch"),
        ("name: n", "name: a b", "letters"),
        ("columns: [params]", "columns: []", "columns"),
        ("label: A", "label: B", "repeats 'B'"),
        ("model: deit_ti", "model: deit_ti, publishd: x", "published"),
        ("model: deit_ti", "model: deit_ti, published: x", "none of the references"),
        ("rows:", "references: [nowhere.yaml]\nrows:", "nowhere.yaml"),
    ],
)
def test_files_that_cannot_be_right(old: str, new: str, words: str, tmp_path: Path) -> None:
    text = (
        "kind: profile\nname: n\nsizes: [64]\ncolumns: [params]\nrows:\n"
        "  - {label: A, model: deit_ti}\n  - {label: B, model: vim_t}\n"
    )
    assert old in text
    (tmp_path / "n.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError, match=words):
        CostExperiment.load(tmp_path / "n.yaml")


def packaged(name: str) -> CostExperiment:
    return CostExperiment.load(find_experiment(name, experiment_dirs()))


def test_the_cost_curve_of_vim() -> None:
    found = packaged("vim_cost_curve")
    assert "3 networks, all sound" in profile.check(found.path)
    small = profile._experiment(["vim_cost_curve"], {}, "cpu")
    assert (small.batch, max(small.sizes)) == (1, 512) and (found.batch, max(found.sizes)) == (64, 1248)
    assert profile._experiment(["vim_cost_curve"], {"size": "64"}, "cuda:0").sizes == (64,)
    deit, fused, vim = found.rows
    assert [found.reference(vim, size) is not None for size in found.sizes] == [True] * 5
    assert found.reference(deit, 1248).values == {"size": 1248, "log10_throughput": 1.26}  # the figure: out of memory
    assert found.reference(fused, 512) is None


def test_the_table_of_the_survey_is_complete() -> None:
    found = packaged("backbones_imagenet")
    assert "latency" not in found.columns
    survey = {key for key, row in found.published().items() if "Survey" in row.source}
    used = {(row.published, size) for row in found.rows for size in row.sizes or found.sizes}
    missing = {label for label, _ in survey - used}
    assert len(survey) == 38
    assert all(label.startswith(("RegNet", "EffNet", "ViT", "S4ND", "SiMBA")) for label in missing)
    assert {row.model for row in found.rows if "later one" in row.note} == {f"vmamba_{s}_v0" for s in "tsb"}


@pytest.mark.slow
def test_every_network_of_the_survey_is_sound() -> None:
    assert "all sound" in profile.check(packaged("backbones_imagenet").path)


@pytest.mark.parametrize("name", ["backbones_demo", "backbones_dehazing"])
def test_the_experiments_over_backbones_can_be_planned(name: str, tmp_path: Path) -> None:
    assert cli.run(["sweep", name, "--dry-run", f"paths.runs={tmp_path}"]) == 0

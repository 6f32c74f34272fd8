"""The command line: exit codes, one clear line for bad input, nothing written, nothing heavy imported for help."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dehaze_bench import cli, help
from dehaze_bench.compose import compose_run, expand
from dehaze_bench.datasets import ACTIONS
from dehaze_bench.registry import list_choices

HEAVY = ("torch", "hydra", "omegaconf", "numpy", "wandb", "rich", "PIL")


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("trian", "'train'"),
        ("train scan=hilber", "'hilbert'"),
        ("train sed=3", "'seed'"),
        ("train foo", "'foo' is not an override"),
        ("train --fooo", "Unknown option '--fooo'"),
        ("train --cfg", "--cfg needs a value"),
        ("train --cfg hydra", "--cfg job"),
        ("train seed=1,2", "train -m"),
        ("train -m scan=raster,cros", "'cross'"),
        ("train dataset=its paths.data=/nowhere", "/nowhere does not exist"),
        ("train train.crop=100", "use 96 or 104"),
        ("train runtime.device=cudaa", "cuda:N"),
        ("train scan=cross model=dcp", "takes no scan"),
        ("eval model=aodnet", "needs weights"),
        ("eval run=zzz", "no run 'zzz'"),
        ("eval run=zzz model=unet", "fixed by run=zzz"),
        ("eval --foo", "eval has none"),
        ("sweep", "needs an experiment"),
        ("sweep nope", "no experiment 'nope'"),
        ("sweep demo rerun=all", "rerun=failed"),
        ("sweep demo --dryrun", "'--dry-run'"),
        ("sweep demo foo=1", "'foo'"),
        ("table demmo", "'demo'"),
        ("table demo other", "not demo, other"),
        ("table demo --format xlsx", "csv"),
        ("ls modls", "'models'"),
        ("check demmo", "'demo'"),
        ("check scan=cros", "'cross'"),
        ("show model=unett", "'unet'"),
        ("show grid=8x8", "scan=cross"),
        ("show scan=cros grid=8x8", "'cross'"),
        ("show scan=cross grid=8", "16x16"),
        ("show scan=cross grid=8x-8", "16x16"),
        ("show scan=cross grid=0x8", "16x16"),
        ("show scan=cross grid=3x4x4", "has 3 axes, try grid=16x16"),
        ("show scan=spatial_first grid=8x8", "has 2 axes, try grid=4x8x8"),
        ("show scan=raster grid=100000x100000", "10,000,000,000 tokens"),
        ("show scan=raster model=unet --json", "'model=unet'"),
        ("show scan=random scan.order.sed=3 --json", "'seed'"),
        ("show scan=random scan.order.seed=-3 --json", "seed >= 0"),
        ("show scan=native grid=8x8", "published with"),
        ("show scan=by_content out=scan.png", "nothing to draw"),
        ("show scan=cross out=scan.gif", ".svg or .pdf"),
        ("show scan=cross out=/proc/nowhere/scan.png", "cannot be written"),
        ("restore model=dcp", "needs a source and a target"),
        ("restore model=dcp in out tile=abc", "tile=abc"),
        ("verify", "needs fixture"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    line: str, words: str, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(shlex.split(line)) == 2
    err = capsys.readouterr().err.strip()
    assert err.splitlines()[-1].startswith("dehaze-bench: ")
    assert words in err
    assert "Traceback" not in err
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        "show model.width=4",
        "show scan=cross",
        "show scan=cross grid=4x4",
        "show scan=by_content --json",
        "ls scans",
        "train --cfg job scan=cross",
        "check model.width=4 model/mixer=conv train.crop=32",
        "sweep demo --dry-run",
        "table demo",
        "ls runs",
    ],
)
def test_looking_writes_nothing(line: str, empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(shlex.split(line)) == 0
    assert capsys.readouterr().out.strip()
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["ls"],
        ["ls", "models"],
        ["ls", "scans"],
        ["ls", "experiments"],
        ["ls", "references", "dataset=sots_indoor"],
        ["train", "--help"],
        ["table", "demo"],
        ["show", "scan=hilbert", "grid=8x8"],
    ],
)
def test_what_answers_at_once_imports_nothing_heavy(argv: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from dehaze_bench import cli; code = cli.run(sys.argv[1:]); "
        f"print('LOADED', *[m for m in {HEAVY!r} if m in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split()[1:])
    if argv[0] in ("table", "show"):  # composes, so it needs Hydra
        assert "torch" not in loaded
    elif argv[0] == "ls" and argv[-1] in ("experiments", "scans"):
        assert not loaded & {"torch", "hydra", "wandb"}
    else:
        assert not loaded


def test_show_draws_and_measures_a_scan(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(shlex.split("show scan=cross grid=6x4 out=new/scan.png")) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[-1] == "new/scan.png"
    assert "on 6x4: 4 routes merged by sum; 4 visits per token" in text
    with Image.open(empty / "new" / "scan.png") as image:
        assert min(image.size) > 100
    assert cli.run(shlex.split("show scan=cross grid=6x4 out=scan.svg --json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (empty / "scan.svg").read_text().startswith("<?xml")
    assert (found["scan"], found["grid"], found["merge"], found["picture"]) == ("cross", [6, 4], "sum", "scan.svg")
    assert found["data_dependent"] is False
    assert found["nearest"] == 1
    assert [route["length"] for route in found["routes"]] == [24] * 4
    assert [max(route["directions"], key=route["directions"].get) for route in found["routes"]] == [
        "right", "down", "left", "up",
    ]  # fmt: skip


def test_show_takes_the_keys_of_a_scan(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for line in ("scan.order.seed=1", "scan.order.seed=2", "scan.order.routes=3"):
        assert cli.run(shlex.split(f"show scan=random {line} --json")) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["locality"] != found[1]["locality"]
    assert [one["num_routes"] for one in found] == [1, 1, 3]
    assert found[0]["grid"] == [8, 8]
    assert cli.run(shlex.split("show scan=temporal_first --json")) == 0
    assert json.loads(capsys.readouterr().out)["grid"] == [3, 4, 4]


def test_show_says_where_statistics_would_mislead(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(shlex.split("show scan=by_content --json")) == 0
    assert json.loads(capsys.readouterr().out)["data_dependent"] is True
    assert cli.run(shlex.split("show scan=by_content grid=8x8")) == 0
    assert "statistics n/a" in capsys.readouterr().out


def test_every_verb_has_help() -> None:
    assert set(help.VERBS) == set(cli.VERBS)
    for verb in cli.VERBS:
        assert cli.run([verb, "--help"]) == 0
        assert f"\n  {verb}" in help.OVERVIEW
        assert help.VERBS[verb].startswith(f"usage: dehaze-bench {verb}")
        assert f"  dehaze-bench {verb}" in help.VERBS[verb].partition("examples")[2], verb


def examples() -> list[str]:
    found = []
    for text in help.VERBS.values():
        lines = text.partition("examples")[2].splitlines()
        # The comment of an example stands after two spaces.
        found += [line.strip().split("  ")[0] for line in lines if line.strip().startswith("dehaze-bench ")]
    return found


@pytest.mark.parametrize("example", examples())
def test_the_overrides_of_every_example_compose(example: str) -> None:
    _, verb, *rest = shlex.split(example)
    assert verb in cli.VERBS
    special = (
        *("run=", "rerun=", "hydra/", "tile=", "frames=", "overlap=", "size=", "ensemble=", "side_by_side=", "device="),
        *("grid=", "out="),
    )
    overrides = [text for text in rest if "=" in text and not text.startswith((*special, "-"))]
    if verb == "data":  # its keys are those of a recipe of haze; the actions have tests of their own
        assert rest[0] in ACTIONS
        return
    if verb == "profile":  # its models may be backbones too, and it has words of its own
        own = ("model=", "size=", "rule=", "train=", "batch=", "repeats=")
        names = [name for text in overrides if text.startswith("model=") for name in text[6:].split(",")]
        assert set(names) <= {*list_choices("model"), *list_choices("model/backbone")}
        backbones = [f"model/backbone={name}" for name in names if name not in list_choices("model")][:1]
        overrides = [*(text for text in overrides if not text.startswith(own)), "model=pyramid", *backbones]
        overrides = overrides if backbones else [f"model={names[0]}" for _ in names[:1]]
    jobs = expand(overrides) if "-m" in rest else [overrides]
    assert all(compose_run(job).cfg.seed is not None for job in jobs)
    if "-m" in rest:
        assert len(jobs) == 6

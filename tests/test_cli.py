"""The command line: exit codes, one clear line for bad input, nothing written, nothing heavy imported for help."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dehaze_bench import cli, help
from dehaze_bench.compose import compose_run, expand

HEAVY = ("torch", "hydra", "omegaconf", "numpy", "wandb", "rich", "PIL")


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("trian", "'train'"),
        ("train scan=hilber", "raster"),
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
    "argv", [["--help"], ["ls"], ["ls", "models"], ["ls", "experiments"], ["train", "--help"], ["table", "demo"]]
)
def test_what_answers_at_once_imports_nothing_heavy(argv: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from dehaze_bench import cli; code = cli.run(sys.argv[1:]); "
        f"print('LOADED', *[m for m in {HEAVY!r} if m in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split()[1:])
    if argv[0] == "table":  # composes, so it needs Hydra
        assert "torch" not in loaded
    elif argv == ["ls", "experiments"]:
        assert not loaded & {"torch", "hydra", "wandb"}
    else:
        assert not loaded


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
    special = ("run=", "rerun=", "hydra/", "tile=", "overlap=", "side_by_side=", "device=")
    overrides = [text for text in rest if "=" in text and not text.startswith((*special, "-"))]
    jobs = expand(overrides) if "-m" in rest else [overrides]
    assert all(compose_run(job).cfg.seed is not None for job in jobs)
    if "-m" in rest:
        assert len(jobs) == 6

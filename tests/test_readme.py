"""README and docs are run: their commands compose, their walk-throughs train."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dehaze_bench import cli, help, listing
from dehaze_bench.compose import compose_run, expand
from dehaze_bench.launch import split_launcher
from dehaze_bench.registry import list_choices
from dehaze_bench.sweep import plan
from tests import tiny

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = PAGES[0].read_text(encoding="utf-8")
EXTENDING = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(program: str) -> list[str]:
    """All commands of the pages that begin with a program, each once."""
    found = [block for page in PAGES for block in blocks("bash", page.read_text(encoding="utf-8"))]
    lines = [line.split("   #")[0].strip() for block in found for line in block.replace("\\\n", " ").splitlines()]
    return list(dict.fromkeys(line for line in lines if line.startswith(program)))


def test_there_are_ten_one_liners() -> None:
    section = TEXT.split("## Ten one-liners")[1].split("##")[0]
    assert section.count("\ndehaze-bench ") == 10


def composed_commands() -> list[object]:
    """All commands; those of the README are checked each time, but for plans of hundreds of runs, the others slowly."""
    front = [line.split("   #")[0].strip() for block in blocks("bash", TEXT) for line in block.splitlines()]
    found = commands("dehaze-bench") + commands("torchrun")
    quick = [line in front and "scan_directions" not in line for line in found]
    return [
        line if soon else pytest.param(line, marks=pytest.mark.slow) for line, soon in zip(found, quick, strict=True)
    ]


@pytest.mark.parametrize("command", composed_commands())
def test_commands_can_be_composed(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    verb, *words = shlex.split(command.partition("-m dehaze_bench")[2] or command.partition(" ")[2])
    assert verb in cli.VERBS and verb in help.VERBS
    options = {word.split("=")[0] for word in words if word.startswith("-")}
    assert options <= {word.strip("[],|") for word in help.VERBS[verb].split()}
    own = ("run", "tile", "frames", "grid", "out", "size", "rerun", "ensemble", "side_by_side")
    overrides = [word for word in words if "=" in word and word.split("=")[0] not in own and word[0] != "-"]
    names = [word for word in words if "=" not in word and not word.startswith("-")]
    if verb == "profile":
        networks = {name for word in words if word.startswith("model=") for name in word[6:].split(",")}
        assert networks <= {*list_choices("model"), *list_choices("model/backbone")}
    elif verb == "ls":
        listing.lines(names[0], overrides)
    elif verb in ("sweep", "table"):
        plan(names[0], split_launcher(overrides)[1])
    elif verb in ("train", "eval", "check", "show", "restore", "export"):
        for row in expand(overrides) if "-m" in words else [overrides]:
            compose_run([text for text in row if not text.startswith("weights=")])


@pytest.mark.parametrize("command", commands("make"))
def test_make_targets_exist(command: str) -> None:
    assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_the_walk_through_for_a_scan_trains(tmp_path: Path) -> None:
    (tmp_path / "my_scans.py").write_text(blocks("python", EXTENDING)[0])
    path = tmp_path / "conf" / "scan" / "columns.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(blocks("yaml", EXTENDING)[0])
    arguments = tiny.overrides(tmp_path, *tiny.NETWORK, *tiny.TRAINING)
    arguments[arguments.index("scan=raster")] = "scan=columns"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    environment["DEHAZE_TARGETS"] = "my_scans"
    command = [sys.executable, "-m", "dehaze_bench"]
    done = subprocess.run(
        [*command, "train", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "unet-conv-columns-deadleaves" in done.stdout
    listed = subprocess.run([*command, "ls", "scans"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    line = next(line for line in listed.stdout.splitlines() if line.startswith("columns "))
    assert line.split(maxsplit=3) == ["columns", "8.5", "8.5", "Column by column, one route"]


def test_the_experiment_of_the_walk_through_is_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my_table.yaml"
    path.write_text(blocks("yaml", EXTENDING)[1])
    assert cli.run(["check", str(path)]) == 0
    assert "runs, all sound" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_local_links_and_pictures_exist(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target

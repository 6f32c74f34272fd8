"""The README is run: its commands compose, its walk-through for a scan trains."""

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
from dehaze_bench.registry import list_choices
from dehaze_bench.sweep import plan
from tests import tiny

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("   #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line]


def test_there_are_ten_one_liners() -> None:
    section = TEXT.split("## Ten one-liners")[1].split("##")[0]
    assert section.count("\ndehaze-bench ") == 10


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("dehaze-bench")])
def test_commands_can_be_composed(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    verb, *words = shlex.split(command)[1:]
    assert verb in cli.VERBS
    assert verb in help.VERBS
    own = ("run", "tile", "grid", "out", "size")
    overrides = [word for word in words if "=" in word and word.split("=")[0] not in own]
    options = {word for word in words if word.startswith("-")}
    assert options <= {word.strip("[],") for word in help.VERBS[verb].split()}
    if verb == "profile":
        names = {name for word in words if word.startswith("model=") for name in word[6:].split(",")}
        assert names <= {*list_choices("model"), *list_choices("model/backbone")}
    elif verb == "ls":
        listing.lines(words[0], words[1:])
    elif verb in ("sweep", "table"):
        plan(next(word for word in words if "=" not in word and not word.startswith("-")), overrides)
    else:
        for row in expand(overrides) if "-m" in words else [overrides]:
            compose_run(row)


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("make")])
def test_make_targets_exist(command: str) -> None:
    assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_the_walk_through_for_a_scan_trains(tmp_path: Path) -> None:
    (tmp_path / "my_scans.py").write_text(blocks("python")[0])
    path = tmp_path / "conf" / "scan" / "columns.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(blocks("yaml")[0])
    arguments = tiny.overrides(tmp_path, *tiny.NETWORK, *tiny.TRAINING)
    arguments[arguments.index("scan=raster")] = "scan=columns"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dehaze_bench"]
    done = subprocess.run(
        [*command, "train", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "unet-conv-columns-deadleaves" in done.stdout
    listed = subprocess.run([*command, "ls", "scans"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    line = next(line for line in listed.stdout.splitlines() if line.startswith("columns "))
    assert line.split(maxsplit=3) == ["columns", "8.5", "8.5", "Column by column, one route"]


def test_local_links_and_pictures_exist() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target

"""Completion: the words that may follow, from file names alone, and the scripts in a real shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dehaze_bench import cli
from dehaze_bench.completion import candidates
from dehaze_bench.help import VERBS


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dehaze-bench tr", ["train"]),
        ("dehaze-bench train sca", ["scan="]),
        ("dehaze-bench train scan=hilbert_", ["scan=hilbert_3d", "scan=hilbert_zigma"]),
        ("dehaze-bench train -m scan=raster,hilbert_z", ["scan=raster,hilbert_zigma"]),
        ("dehaze-bench train model/mixer=mamba2", ["model/mixer=mamba2"]),
        ("dehaze-bench train runtime.precision=f", ["runtime.precision=fp16", "runtime.precision=fp32"]),
        ("dehaze-bench sweep sots_", ["sots_indoor", "sots_outdoor"]),
        ("dehaze-bench data ver", ["verify"]),
        ("dehaze-bench data verify sots_", ["sots_indoor", "sots_outdoor"]),
        ("dehaze-bench ls back", ["backbones"]),
        ("dehaze-bench table demo --pub", ["--publish"]),
        ("dehaze-bench train nonsense", []),
    ],
)
def test_candidates(line: str, expected: list[str]) -> None:
    assert candidates(line) == expected


def test_every_verb_is_offered() -> None:
    assert candidates("dehaze-bench ") == sorted(VERBS)


def test_runs_are_offered_by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "unet-mamba-0123abcd"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    assert candidates("dehaze-bench eval run=0") == ["run=0123abcd"]


def test_completion_imports_neither_torch_nor_hydra() -> None:
    code = (
        "import sys; from dehaze_bench.cli import run; run(['completion', 'query', 'dehaze-bench train scan=']); "
        "assert not {'torch', 'hydra'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("line", "expected"), [("dehaze-bench swe", "[sweep ]"), ("dehaze-bench train scan=hilbert_z", "[hilbert_zigma ]")]
)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_works_in_the_shell(shell: str, line: str, expected: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    program = tmp_path / "dehaze-bench"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m dehaze_bench "$@"\n')
    program.chmod(0o755)
    script = (
        f'source <(dehaze-bench completion {shell}); COMP_LINE="{line}"; COMP_POINT={len(line)}; '
        '_dehaze_bench; printf "[%s]" "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    if shell == "zsh":
        script = f"autoload -U +X compinit && compinit -u; {script}"
    done = subprocess.run([shell, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == expected, done.stderr


def test_an_unknown_shell_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["completion", "bsh"]) == 2
    assert "bash" in capsys.readouterr().err

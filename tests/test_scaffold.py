"""`new`: what it writes fails its test as long as it is empty, passes once it is filled in, and then runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dehaze_bench import cli
from tests import tiny

ROOT = Path(__file__).resolve().parents[1]
FILLED = {
    "scan": 'raise NotImplementedError("write the order: every id once in each row, shape (routes, H * W)")',
    "model": 'raise NotImplementedError("write the network: return an image of the shape of hazy_BCHW")',
    "experiment": "model=FILL_IN",
}
BY = {
    "scan": "ids = ids.T[::-1]",
    "model": "return hazy_BCHW + self.body(hazy_BCHW).mean(1, keepdim=True)",
    "experiment": "model=dcp",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _environment(folder: Path, module: str) -> dict[str, str]:
    path = f"{folder}{os.pathsep}{ROOT}"
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "DEHAZE_TARGETS": module}


@pytest.mark.parametrize("kind", ["scan", "model", "experiment"])
def test_it_fails_until_it_is_filled_in(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["new", kind, "spam"]) == 0
    assert f"tests/test_spam_{kind}.py" in capsys.readouterr().out
    environment = _environment(folder, f"spam_{kind}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/test_spam_{kind}.py"]
    failed = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert failed.returncode == 1, failed.stdout
    assert ("FILL_IN" if kind == "experiment" else "NotImplementedError: write the") in failed.stdout
    path = folder / ("experiments/spam.yaml" if kind == "experiment" else f"spam_{kind}.py")
    text = path.read_text()
    assert FILLED[kind] in text
    path.write_text(text.replace(FILLED[kind], BY[kind]))
    passed = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert passed.returncode == 0, passed.stdout
    if kind == "experiment":
        return
    arguments = tiny.overrides(folder, *tiny.NETWORK, *tiny.TRAINING)
    if kind == "scan":
        arguments[arguments.index("scan=raster")] = "scan=spam"
    else:
        arguments = tiny.overrides(folder, "model=spam", *tiny.TRAINING)
    done = subprocess.run(
        [sys.executable, "-m", "dehaze_bench", "train", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "spam" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "new needs a kind and a name"),
        (["scna", "spam"], "Did you mean 'scan'"),
        (["scan", "Spam!"], "'Spam!' cannot be a name here"),
        (["scan", "hilbert"], "The scan 'hilbert' exists already"),
        (["experiment", "demo"], "The experiment 'demo' exists already"),
    ],
)
def test_a_bad_request_is_one_line(
    words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["new", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "spam_scan.py").write_text("mine")
    assert cli.run(["new", "scan", "spam"]) == 2
    assert "spam_scan.py exists" in capsys.readouterr().err
    assert (folder / "spam_scan.py").read_text() == "mine" and not (folder / "conf").exists()

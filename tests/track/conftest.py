"""An empty home, a small run, and how to look at what W&B has written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory and no W&B settings but those of the test."""
    fonts = os.environ.get("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))  # seconds to make anew
    monkeypatch.setenv("MPLCONFIGDIR", fonts)
    path = tmp_path / "home"
    path.mkdir()
    for name in list(os.environ):
        if name.startswith(("WANDB_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setenv("NETRC", str(path / "netrc"))
    monkeypatch.chdir(tmp_path)
    return path

"""Shared fixtures: where the local samples and golden fixtures are, and a quiet, deterministic torch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is imported
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real samples and golden fixtures beside the checkout; tests that need it skip without it."""
    path = Path(os.environ.get("DEHAZE_BENCH_SHARED", ROOT.parent / "shared"))
    if not (path / "golden").is_dir():
        pytest.skip(f"no golden fixtures and samples at {path}: set DEHAZE_BENCH_SHARED to run this test")
    return path


@pytest.fixture(scope="session")
def golden() -> Path:
    """The golden fixtures that are part of the repository."""
    return ROOT / "tests" / "golden"

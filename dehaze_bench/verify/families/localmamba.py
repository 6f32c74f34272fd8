"""The two families of hunto/LocalMamba: hierarchical networks have depths, plain ones one depth."""

from __future__ import annotations

import importlib

from dehaze_bench.verify.built import Built
from dehaze_bench.verify.fixture import BuildArguments, Fixture


def build(fixture: Fixture, arguments: BuildArguments) -> Built:
    """Return the network or block that the fixture describes."""
    name = "localvmamba" if "depths" in arguments.left else "localvim"
    built: Built = importlib.import_module(f"dehaze_bench.verify.families.{name}").build(fixture, arguments)
    return built

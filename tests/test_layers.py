"""Who may import whom: the imports of every module are parsed, so a lazy import counts too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "dehaze_bench"

# From the top down; a module imports its own level or lower ones. Leaves may be imported by all.
LEVELS = {
    "cli": 4, "compose": 4, "source": 4, "identify": 4, "listing": 4, "completion": 4, "scaffold": 4,
    "run": 4, "fitting": 4, "evidence": 4, "sweep": 4, "launch": 4, "row": 4, "submission": 4, "remembered": 4,
    "tabling": 4, "reporting": 4, "publication": 4, "profile": 4, "profile_runs": 4, "restoration": 4, "exporting": 4,
    "protocols_page": 4, "model_page": 4, "datasets": 4,
    "build": 3, "infer": 3, "verify": 3, "environment": 3,
    "counting": 3, "profiling": 3, "budgets": 3,
    "engine": 2, "results": 2, "track": 2, "weights": 2,
    "models": 1, "data": 1, "metrics": 1, "nn": 1,
    "ops": 0, "scans": 0,
}  # fmt: skip
LEAVES = {"digest", "errors", "locking", "config", "registry", "help", "arguments", "targets", "redaction", ""}
SIBLINGS = {2: {("engine", "track"), ("engine", "results")}, 1: {("models", "nn")}}
CONFIG_READERS = {
    "publication",
    "completion",
    "exporting",
    "remembered",
    "cli",
    "run",
    "fitting",
    "launch",
    "build",
    "compose",
    "sweep",
    "source",
    "config",
}
HYDRA_READERS = {
    "publication",
    "build",
    "remembered",
    "compose",
    "launch",
    "source",
    "run",
    "fitting",
    "cli",
    "config",
    "datasets",
}


def modules() -> list[Path]:
    return sorted(
        p for p in PACKAGE.rglob("*.py") if p.name not in ("__init__.py", "__main__.py") or p.parent != PACKAGE
    )


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def rooms(path: Path) -> set[str]:
    """Return the top-level parts of our package that a module imports."""
    found = set()
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "dehaze_bench" and len(parts) > 1 and (parts[1] in LEVELS or parts[1] in LEAVES):
            found.add(parts[1])
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    here = room(path)
    assert here in LEVELS or here in LEAVES, f"{here} has no level: add it to LEVELS"
    for other in rooms(path) - {here} - LEAVES:
        assert here not in LEAVES, f"{here} is a leaf and imports {other}"
        level, below = LEVELS[here], LEVELS[other]
        assert below <= level, f"{here} (level {level}) imports {other} (level {below})"
        if below == level and level in (0, 1, 2):
            assert (here, other) in SIBLINGS.get(level, set()), f"{here} imports its sibling {other}"


def test_engine_sees_only_sink_and_record() -> None:
    allowed = {"dehaze_bench.track.sink", "dehaze_bench.results.record"}
    for path in (PACKAGE / "engine").glob("*.py"):
        for name in imports(path):
            if name.startswith(("dehaze_bench.track", "dehaze_bench.results")):
                assert any(name == ok or name.startswith(f"{ok}.") for ok in allowed), (path.name, name)


def test_third_parties_stay_in_their_rooms() -> None:
    for path in modules():
        here, found = room(path), {name.split(".")[0] for name in imports(path)}
        where = str(path.relative_to(PACKAGE))
        assert "wandb" not in found or where.startswith("track/wandb_"), where
        assert not found & {"hydra", "omegaconf"} or here in HYDRA_READERS, where
        assert "torch" not in found or here not in (
            "results",
            "config",
            "errors",
            "locking",
            "registry",
            "listing",
            "help",
        ), where
        assert not found & {"torchvision", "timm"}, where


def test_only_the_top_reads_the_config_schema() -> None:
    for path in modules():
        if "config" in rooms(path):
            assert room(path) in CONFIG_READERS, path


def test_modules_are_rooms_not_halls() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path

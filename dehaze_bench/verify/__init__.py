"""Golden fixtures: our output against the published one.

A check is chosen by what a fixture says it is (`model`, `scan`, `build.function`), never by the name of its
folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dehaze_bench.errors import BenchError, UsageError, nearest
from dehaze_bench.verify.built import FAMILIES, check_family, is_family
from dehaze_bench.verify.compare import Row
from dehaze_bench.verify.fixture import Fixture, find_fixtures, load_fixture
from dehaze_bench.verify.measures import check_metrics
from dehaze_bench.verify.operators import (
    check_bi_wkv,
    check_mamba_block,
    check_q_shift,
    check_selective_scan,
)
from dehaze_bench.verify.prior import check_dark_channel_prior
from dehaze_bench.verify.real import check_real
from dehaze_bench.verify.report import Report, render, to_json
from dehaze_bench.verify.scanning import check_scan
from dehaze_bench.verify.state_space import check_lti, check_mamba2_block, check_ssd

__all__ = ["Report", "Row", "render", "to_json", "verify"]

NOTES = (".md", ".py", ".txt")
CHECKS: dict[str, Callable[[Fixture], list[Row]]] = {
    "dcp": check_dark_channel_prior,
    "metrics_pairs": check_metrics,
    "ops_bi_wkv": check_bi_wkv,
    "ops_lti_s4d": check_lti,
    "ops_mamba1_block": check_mamba_block,
    "ops_mamba2_simple": check_mamba2_block,
    "ops_q_shift": check_q_shift,
    "ops_ssd_minimal": check_ssd,
}
# Fixtures of one function in many shapes say which function, not which shape, in their build table.
FUNCTIONS: dict[str, Callable[[Fixture], list[Row]]] = {"selective_scan reference": check_selective_scan}


def verify(paths: list[Path], samples: Path | None = None) -> Report:
    """Check every fixture at `paths` (fixture folders, scan files, folders of these) and report on all.

    A fixture that is unknown, malformed or says something we do not understand becomes a problem of the
    report (exit code 2) and the rest goes on; a difference above tolerance wins (exit code 1). `samples` is
    the folder of published weights and real images that the real_* fixtures need.
    """
    rows: list[Row] = []
    problems: list[tuple[str, str]] = []
    if len(paths) > 1:  # a shell's * also names what is written about a folder of fixtures
        paths = [path for path in paths if not (path.is_file() and path.suffix in NOTES)]
    for path in paths:
        try:
            found = find_fixtures(path)
        except UsageError as error:
            problems.append((str(path), str(error)))
            continue
        for fixture_path in found:
            try:
                rows += check(load_fixture(fixture_path), samples)
            except BenchError as error:
                problems.append((fixture_path.stem, str(error)))
            except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
                # A fixture can be malformed in more ways than anyone lists; one must not hide the others.
                message = f"{fixture_path} could not be checked: {type(error).__name__}: {error}"
                problems.append((fixture_path.stem, message))
    return Report(tuple(rows), tuple(problems))


def check(fixture: Fixture, samples: Path | None = None) -> list[Row]:
    """Return the rows of one fixture; raises UsageError for one that is not known."""
    if fixture.kind == "scan":
        return check_scan(fixture)
    if fixture.kind == "real":
        return check_real(fixture, samples)
    function = fixture.spec.get("build", {}).get("function")
    if function in FUNCTIONS:
        return FUNCTIONS[function](fixture)
    # Another size of a known operator may say so in its name: "ops_ssd_minimal_l100".
    known_as = max((name for name in CHECKS if f"{fixture.model}_".startswith(f"{name}_")), key=len, default=None)
    if known_as is not None:
        return CHECKS[known_as](fixture)
    if is_family(fixture):
        return check_family(fixture)
    families = [f"any network of {name}" for name in FAMILIES]
    known = [*CHECKS, *families, *(f"any model whose build.function is '{name}'" for name in FUNCTIONS)]
    raise UsageError(f"{fixture.path}: there is no check for model '{fixture.model}'. {nearest(fixture.model, known)}")

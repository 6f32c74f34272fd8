"""Golden fixtures pass; changed, unknown and malformed ones do not, each with the exit code it deserves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dehaze_bench.verify import Report, Row, render, to_json, verify

ARRAYS = [
    "aodnet",
    "dcp",
    "ops_bi_wkv",
    "ops_mamba1_block",
    "ops_q_shift",
    "ops_selective_scan_d_nosoftplus_n1_l37",
    "ops_selective_scan_g4_n1_l37",
    "ops_selective_scan_z_n16_l37",
    "ops_selective_scan_z_nod_nobias_n4_l37",
]


@pytest.mark.parametrize("name", ARRAYS)
def test_golden_fixtures_pass(golden: Path, name: str) -> None:
    report = verify([golden / name])
    assert report.rows
    assert report.exit_code == 0, render(report)


def test_golden_scans_pass(golden: Path) -> None:
    report = verify([golden / "scans"])
    assert report.exit_code == 0, render(report)
    files = list((golden / "scans").glob("*.json"))
    assert len(files) == 44
    assert {row.fixture for row in report.rows} == {path.stem for path in files}


@pytest.mark.slow
def test_golden_metrics_pass(golden: Path) -> None:
    report = verify([golden / "metrics_pairs"])
    assert report.exit_code == 0, render(report)
    assert len(report.rows) == 5 * 33 + 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["real_aodnet", "real_gcanet"])
def test_published_weights_on_real_images(shared: Path, name: str) -> None:
    report = verify([shared / "golden" / name], samples=shared / "samples")
    assert report.exit_code == 0, render(report)
    assert len(report.rows) == 12 * (20 + 2 + 4) + 3 * 20


@pytest.fixture
def change(golden: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy a fixture and change its spec, or arrays, on the way."""

    def copy(
        name: str,
        spec: Callable[[dict[str, Any]], object] | None = None,
        arrays: Callable[[dict[str, np.ndarray]], object] | None = None,
    ) -> Path:
        folder = tmp_path / "some_other_name"
        shutil.copytree(golden / name, folder)
        if spec is not None:
            content = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
            spec(content)
            (folder / "spec.json").write_text(json.dumps(content), encoding="utf-8")
        if arrays is not None:
            with np.load(folder / "out.npz") as stored:
                values = {key: stored[key] for key in stored.files}
            arrays(values)
            np.savez(folder / "out.npz", **values)
        return folder

    return copy


@pytest.mark.parametrize("name", ARRAYS)
def test_a_changed_output_fails(change: Callable[..., Path], name: str) -> None:
    def disturb(arrays: dict[str, np.ndarray]) -> None:
        arrays["out"] = arrays["out"] * (1 + 1e-3)

    report = verify([change(name, arrays=disturb)])
    assert report.exit_code == 1
    assert all(row.array.startswith("out") for row in report.failed)
    assert report.failed


@pytest.mark.parametrize("name", ARRAYS)
def test_an_argument_that_is_not_understood_is_an_error(change: Callable[..., Path], name: str) -> None:
    report = verify([change(name, spec=lambda spec: spec["build"].update(dilation=2))])
    assert report.exit_code == 2
    assert "does not understand build argument 'dilation'" in report.problems[0][1]
    assert not report.rows


CHANGES: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("dcp", lambda spec: spec.update(model="dpc"), "Did you mean 'dcp'"),
    ("aodnet", lambda spec: spec["build"].update(kernels=[1, 3, 5, 7, 9]), "kernels=[1, 3, 5, 7, 9] is not"),
    ("aodnet", lambda spec: spec["build"].pop("concat"), "no argument 'concat'"),
    ("aodnet", lambda spec: spec.update(normalise="imagenet"), "normalise='imagenet'"),
    ("aodnet", lambda spec: spec["shapes"].pop("e_conv1.bias"), "missing: conv1.bias"),
    ("aodnet", lambda spec: spec["shapes"].update({"e_conv1.bias": [4]}), "(4,) instead of (3,)"),
    ("aodnet", lambda spec: spec.pop("tolerance"), "no entry 'tolerance'"),
    ("aodnet", lambda spec: spec.update(tolerance="small"), "tolerance is 'small'"),
    ("aodnet", lambda spec: spec.update(input={"seed": 1}), "a seed and a shape"),
    ("aodnet", lambda spec: spec.update(build=3), "could not be checked"),
    ("ops_mamba1_block", lambda spec: spec["build"].update(activation="gelu"), "activation='gelu'"),
    ("ops_mamba1_block", lambda spec: spec["build"].update(d_state=8), "instead of"),
    ("ops_q_shift", lambda spec: spec["build"].update(grid=[7, 6]), "where build states"),
    ("ops_bi_wkv", lambda spec: spec["build"].update(tokens=9), "where build states"),
    ("ops_selective_scan_z_n16_l37", lambda spec: spec["build"].update(z=False), "build says z=False"),
    ("ops_selective_scan_z_n16_l37", lambda spec: spec["build"].update(groups=2), "no group axis"),
    ("ops_selective_scan_z_n16_l37", lambda spec: spec["build"].update(length=9), "where build states"),
    ("ops_selective_scan_z_n16_l37", lambda spec: spec["build"].update(function="ssd"), "there is no check"),
    ("dcp", lambda spec: spec["build"].pop("omega"), "no argument 'omega'"),
]


@pytest.mark.parametrize(("name", "edit", "message"), CHANGES)
def test_what_cannot_be_right_is_named(
    change: Callable[..., Path], name: str, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    report = verify([change(name, spec=edit)])
    assert report.exit_code == 2
    assert message in report.problems[0][1]


def test_build_arguments_are_used(change: Callable[..., Path]) -> None:
    def shift_twice(spec: dict[str, Any]) -> None:
        spec["build"]["shift"] = 2

    assert verify([change("ops_q_shift", spec=shift_twice)]).exit_code == 1


def test_the_count_of_parameters_is_compared(change: Callable[..., Path]) -> None:
    report = verify([change("aodnet", spec=lambda spec: spec.update(parameters=1760))])
    assert [(row.array, row.note) for row in report.failed] == [("parameters", "1,761 instead of 1,760")]


def test_an_array_that_nobody_computes_is_an_error(change: Callable[..., Path]) -> None:
    report = verify([change("ops_q_shift", arrays=lambda arrays: arrays.update(gate=np.zeros(3)))])
    assert report.exit_code == 2
    assert "does not compute array 'gate'" in report.problems[0][1]


def test_a_missing_array_is_named(change: Callable[..., Path]) -> None:
    report = verify([change("ops_q_shift", arrays=lambda arrays: arrays.pop("x"))])
    assert "has no array 'x'" in report.problems[0][1]


def test_paths_that_hold_no_fixture(tmp_path: Path, golden: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "spec.json").write_text("{", encoding="utf-8")
    (tmp_path / "alone").mkdir()
    shutil.copy(golden / "aodnet" / "spec.json", tmp_path / "alone")
    (tmp_path / "bytes").mkdir()
    shutil.copy(golden / "aodnet" / "spec.json", tmp_path / "bytes")
    (tmp_path / "bytes" / "out.npz").write_bytes(b"nothing")
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    names = ["absent", "empty", "broken", "alone", "bytes", "list.json", "other.json"]
    messages = ["no fixture at", "holds no fixture", "not valid JSON", "no out.npz", "not a readable npz"]
    messages += ["list instead of a JSON object", "an entry 'scan'"]
    report = verify([tmp_path / name for name in names])
    assert report.exit_code == 2
    assert len(report.problems) == len(names)
    for (_, problem), message in zip(report.problems, messages, strict=True):
        assert message in problem


@pytest.mark.parametrize(
    ("edit", "exit_code", "message"),
    [
        (lambda scan: scan["routes"][1].reverse(), 1, "first at step 0"),
        (lambda scan: scan["routes"].pop(), 1, "4 routes instead of 3"),
        (lambda scan: scan["routes"][0].pop(), 1, "24 steps instead of 23"),
        (lambda scan: scan.update(scan="vmamba_crosss"), 2, "Did you mean 'vmamba_cross'"),
        (lambda scan: scan.update(grid=[2, 3, 4]), 2, "grid of two axes"),
        (lambda scan: scan.update(half_grid=[2, 3]), 2, "does not understand entry 'half_grid'"),
        (lambda scan: scan.pop("routes"), 2, "no entry 'routes'"),
    ],
)
def test_changed_scans(
    golden: Path,
    tmp_path: Path,
    edit: Callable[[dict[str, Any]], object],
    exit_code: int,
    message: str,
) -> None:
    content = json.loads((golden / "scans" / "vmamba_cross_4x6.json").read_text(encoding="utf-8"))
    edit(content)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    report = verify([path])
    assert report.exit_code == exit_code
    found = [problem for _, problem in report.problems] + [row.note for row in report.failed]
    assert any(message in text for text in found)


@pytest.mark.parametrize("grid", [(3, 5), (1, 1), (1, 4)])
def test_the_class_token_of_vim_sits_in_the_middle_of_odd_lengths_too(tmp_path: Path, grid: tuple[int, int]) -> None:
    length = grid[0] * grid[1]
    forward = [*range(length // 2), -1, *range(length // 2, length)]
    scan = {"scan": "vim_bidirectional", "grid": grid, "routes": [forward, forward[::-1]], "merge": "mean"}
    (tmp_path / "vim.json").write_text(json.dumps(scan), encoding="utf-8")
    assert verify([tmp_path / "vim.json"]).exit_code == 0


def test_real_fixtures_need_samples(shared: Path, tmp_path: Path) -> None:
    report = verify([shared / "golden" / "real_aodnet"])
    assert (report.exit_code, "--samples DIR" in report.problems[0][1]) == (2, True)
    report = verify([shared / "golden" / "real_aodnet"], samples=tmp_path)
    assert "dehazer.pth is not in the samples" in report.problems[0][1]
    (tmp_path / "weights" / "aodnet").mkdir(parents=True)
    (tmp_path / "weights" / "aodnet" / "dehazer.pth").write_bytes(b"other")
    report = verify([shared / "golden" / "real_aodnet"], samples=tmp_path)
    assert "another sha256" in report.problems[0][1]


GOOD = Row("f", "out", 1e-8, 1e-5)
BAD = Row("f", "mid", 1e-2, 1e-5, note="shape")


@pytest.mark.parametrize(
    ("rows", "problems", "exit_code"),
    [
        ((GOOD,), (), 0),
        ((GOOD, BAD), (), 1),
        ((GOOD,), (("g", "unknown"),), 2),
        ((BAD,), (("g", "unknown"),), 1),
        ((), (), 2),
    ],
)
def test_exit_codes(rows: tuple[Row, ...], problems: tuple[tuple[str, str], ...], exit_code: int) -> None:
    assert Report(rows, problems).exit_code == exit_code


def test_the_table_shows_failures_and_the_verdict() -> None:
    text = render(Report((GOOD, BAD), (("g", "no check for model 'g'"),)))
    assert "DIFFERS shape" in text
    assert "not checked: g: no check for model 'g'" in text
    assert text.endswith("1 of 2 arrays agree in 1 fixture; 1 fixture could not be checked.")


def test_a_long_fixture_is_shortened_but_no_failure_is_hidden() -> None:
    rows = [Row("f", f"a{i}", 1e-9 * i, 1e-5) for i in range(40)]
    text = render(Report((*rows, BAD), ()))
    assert "a39" not in text
    assert "mid" in text
    assert "and 40 more" in text
    assert "a39" in render(Report(tuple(rows), ()))


def test_json_is_valid_and_complete() -> None:
    report = Report((GOOD, Row("f", "x", float("inf"), 1e-5)), (("g", "unknown"),))
    content = json.loads(to_json(report), parse_constant=lambda name: pytest.fail(name))
    assert content["exit_code"] == 1
    assert [row["error"] for row in content["rows"]] == [1e-8, None]
    assert [row["ok"] for row in content["rows"]] == [True, False]
    assert content["problems"] == [{"fixture": "g", "message": "unknown"}]


def test_notes_beside_fixtures_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("what is here")
    golden = Path(__file__).resolve().parents[1] / "golden" / "aodnet"
    assert verify([golden, tmp_path / "README.md"]).exit_code == 0
    assert verify([tmp_path / "README.md"]).exit_code == 2
